"""``ser-kedro plan``: what a run will need, before anything is downloaded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import CatalogProtocol

from ser_kedro.errors import ParameterError, SerKedroError
from ser_kedro.launch.executor import NotFinished
from ser_kedro.launch.log_filters import quiet
from ser_kedro.launch.params import LOOKUP, LauncherParams
from ser_kedro.pipelines.self_evolve.loops import max_loops
from ser_kedro.planning.devices import (
    Devices,
    Offload,
    from_launcher,
    parse_size,
    this_machine,
)
from ser_kedro.planning.work import Work
from ser_kedro.store.json_io import read_json
from ser_kedro.store.references import Reference

_RUN = "self_evolve"
_SPLIT = (
    "sft_pairs",
    "labeled_pairs",
    "unlabeled_pairs",
    "test_pairs",
    "ppo_prompts",
)


def plan_text(
    *,
    env: str | None,
    params: dict[str, Any],
    devices: int | None,
    device_memory: str | None,
    zero: int | None,
    offload: str | None,
) -> str:
    """Return the plan of the run that ``kedro run`` would start with these options.

    Args:
        env: As of ``kedro run``.
        params: As of ``kedro run``.
        devices: Number of devices, in place of the launcher's.
        device_memory: Memory of one, such as ``80GB``.
        zero: ZeRO stage, in place of the launcher's.
        offload: What ZeRO keeps on the host, in place of the launcher's.

    Raises:
        SerKedroError: If a parameter is wrong, or the model's configuration is not
            to be had.
    """
    with KedroSession.create(env=env, runtime_params=params) as session:
        context = cast("KedroSession", session).load_context()
        settings, catalog = context.params, context.catalog
        planned = _override(
            _launcher_devices(context.project_path, settings["launcher"]),
            devices,
            device_memory,
            zero,
            offload,
        )
        work = look_up(catalog)
    # After the parameters, so that a mistake in them is reported without torch.
    from ser_kedro.planning.stages import make_plan
    from ser_kedro.planning.text import render

    evolution = settings["self_evolve"]
    crossfit = settings["data_split"].validation == "crossfit"
    # To train once more at the end costs what a loop does, or less.
    last = evolution.last_loop(max_loops()) + evolution.refit
    last += evolution.plain and not crossfit
    with quiet():
        made = make_plan(
            settings["model"],
            settings["sft"],
            settings["reward"],
            settings["ppo"],
            planned,
            loops=last,
            patience=evolution.patience,
            folds=evolution.folds if crossfit else 0,
            views=evolution.labeller == "committee",
            work=work,
            here=planned == this_machine(),
        )
    return render(made)


def _launcher_devices(project: Path, launcher: LauncherParams) -> Devices:
    if not (named := launcher.deepspeed):
        return from_launcher(launcher, None)
    if not (project / named).is_file():
        raise ParameterError(
            f"launcher={launcher.name}: its DeepSpeed file {named} is not there; mend"
            f" conf/base/presets/launcher/{launcher.name}.yml"
        )
    return from_launcher(launcher, read_json(project / named))


def _override(
    known: Devices,
    count: int | None,
    memory: str | None,
    zero: int | None,
    offload: str | None,
) -> Devices:
    if memory is not None:
        # Whoever states the memory of a device speaks of an accelerator.
        known = replace(known, memory_bytes=parse_size(memory), bf16=True)
    if count is not None:
        known = replace(known, count=count)
    if zero is not None:
        known = replace(known, zero_stage=zero)
    if offload is not None:
        known = replace(known, offload=cast("Offload", offload))
    if known.offload != "none" and not known.zero_stage:
        raise ParameterError(
            f"--offload {known.offload}: needs ZeRO; add --zero 2 or --zero 3"
        )
    if known.offload == "parameters" and known.zero_stage < 3:
        raise ParameterError("--offload parameters: needs --zero 3")
    return known


def look_up(catalog: CatalogProtocol) -> Work:
    """Follow the run through the store without starting anything.

    The nodes themselves are called, under a launcher that looks jobs up and never runs
    one, so what is found is what a run would reuse. What stands behind an unfinished
    job is not known.
    """
    made: dict[str, Any] = {}
    missing = unknown = None
    for node in pipelines[_RUN].nodes:
        if "evaluation" in node.tags:
            continue  # figures, not jobs
        try:
            inputs = [_load(catalog, made, name) for name in node.inputs]
        except KeyError:
            continue  # behind an unfinished job
        try:
            made |= node.run(dict(zip(node.inputs, inputs, strict=True)))
        except NotFinished as error:
            missing = missing or str(error)
        except SerKedroError as error:
            unknown = unknown or " ".join(str(error).split())
    tables = {name: made[name] for name in _SPLIT if name in made}
    return Work(
        pairs={name: table.rows or 0 for name, table in tables.items()},
        sample=tables.get("labeled_pairs"),
        table_bytes=sum(_size(table) for table in tables.values()),
        finished=_finished(made.values()),
        missing=missing,
        unknown=unknown,
    )


def _load(catalog: CatalogProtocol, made: dict[str, Any], name: str) -> Any:
    if name in made:
        return made[name]
    if name == "params:launcher":
        return LOOKUP
    if name.startswith("params:") or name == "raw_preferences":
        return catalog.load(name)
    raise KeyError(name)


def _finished(made: Iterable[Any]) -> dict[str, int]:
    """Return the number of finished jobs behind references, by stage."""
    references = (each for each in made if isinstance(each, Reference))
    jobs = {PurePosixPath(each.path).parts[2:4] for each in references}
    return dict(Counter(stage for stage, _ in sorted(jobs)))


def _size(table: Reference) -> int:
    return table.location.stat().st_size
