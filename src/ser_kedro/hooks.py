"""What happens around a run."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.framework.project import pipelines
from kedro.io import (
    AbstractVersionedDataset,
    CatalogProtocol,
    MemoryDataset,
    Version,
)
from kedro.io.core import VersionNotFoundError
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.runner import SequentialRunner
from kedro_datasets.partitions import PartitionedDataset
from pydantic import SecretStr

from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.errors import DataError
from ser_kedro.evaluation.benchmarks.read import check_items
from ser_kedro.launch.command import check_installed
from ser_kedro.models.params import SftWhen
from ser_kedro.store.layout import PROJECT_VARIABLE

SUMMARY = "evolution_summary"
JUDGE = "judge"
LAUNCHER = "params:launcher"
MODEL = "params:model"
EVALUATION = "params:evaluation"
# The tag of the node that reads the raw data to their end.
READS_DATA = "reads_data"
# What earlier runs leave, unlike the raw data.
_MADE = (AbstractVersionedDataset, PartitionedDataset)
# The runs that start from the raw preferences.
_WHOLE = ("self_evolve", "policy", "ablations")


class ProjectHooks:
    """Tell jobs where the project is, fix versions, check inputs, print the summary."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Set the project's root for this process and its children."""
        os.environ[PROJECT_VARIABLE] = str(context.project_path)
        self._loader = context.config_loader
        # A table whose file is replaced by a newer version is expected.
        warnings.filterwarnings("ignore", module="kedro.io.core")

    @hook_impl
    def after_catalog_created(
        self, catalog: CatalogProtocol, conf_creds: dict[str, Any]
    ) -> None:
        """Give the judge its credentials, if there are any, and never print them."""
        found = conf_creds or _local_credentials(self._loader.conf_source)
        given = found.get(JUDGE) or {}
        secret = {name: SecretStr(str(value)) for name, value in given.items()}
        layer = {"kedro-viz": {"layer": "raw"}}
        catalog[f"{JUDGE}_credentials"] = MemoryDataset(secret, metadata=layer)

    @hook_impl
    def before_pipeline_run(
        self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Fix which versions the run loads, and refuse it if it could not finish.

        Raises:
            DataError: If an input has no version, or refers to what is gone; if a
                benchmark cannot be read.
            ModelError: If some stage could not use the model.
            ParameterError: If the launcher's software is missing.
        """
        _pin_versions(pipeline, catalog, run_params["only_missing_outputs"])
        inputs = pipeline.inputs()
        if LAUNCHER in inputs:
            check_installed(catalog.load(LAUNCHER))
        if MODEL in inputs:
            _check_model(pipeline, catalog)
        if EVALUATION in inputs:
            for test in catalog.load(EVALUATION).benchmarks:
                check_items(test)
        for name in sorted(inputs):
            dataset = catalog.get(name)
            if isinstance(dataset, _MADE) and not dataset.exists():
                raise DataError(_nothing_to_read(name, run_params["env"]))

    @hook_impl
    def after_node_run(self, node: Node) -> None:
        """Remember the user's own data once they have been read to the end."""
        if READS_DATA in node.tags and isinstance(self._loader, ProjectConfigLoader):
            self._loader.remember_data()

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Print the table that the run was for, if it came as far as that."""
        if SUMMARY in pipeline.all_outputs():
            print(f"\n{catalog.load(SUMMARY)}")


def _pin_versions(
    pipeline: Pipeline, catalog: CatalogProtocol, only_missing: bool
) -> None:
    """Let a run load what it has saved itself, or else what was there at its start.

    Kedro would load the newest version at the time, which another run may have saved.
    """
    to_run = pipeline
    if only_missing:
        runner = SequentialRunner()
        to_run = runner._filter_pipeline_for_missing_outputs(pipeline, catalog)
    made = to_run.all_outputs()
    for name in pipeline.datasets():
        dataset = catalog.get(name)
        if not isinstance(dataset, AbstractVersionedDataset):
            continue
        if not dataset._version or dataset._version.load:
            continue  # one file for all runs, or a version that was asked for
        save = dataset.resolve_save_version()
        with suppress(VersionNotFoundError):
            load = save if name in made else dataset.resolve_load_version()
            dataset._version = Version(load, save)


def _check_model(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    sections = [
        n for n in ("sft", "reward", "ppo") if f"params:{n}" in pipeline.inputs()
    ]
    model, *given = (catalog.load(f"params:{name}") for name in ("model", *sections))
    params = dict(zip(sections, given, strict=True))
    lengths = {name: params[name].max_length for name in sections if name != "ppo"}
    if ppo := params.get("ppo"):
        lengths["ppo"] = ppo.max_prompt_length + ppo.max_new_tokens
    fits = all(n <= lengths.get("sft", n) for n in lengths.values())
    when: SftWhen = params["sft"].when if "sft" in params else "auto"
    made = model.scratch is not None and when != "never"
    adapters = {name: params[name].lora for name in sections}
    last = {n: a.last_layers for n, a in adapters.items() if a and a.last_layers}
    if model.scratch is not None:
        fits = fits and all(n <= model.scratch.layers for n in last.values())
    if made and model.chat_template is None and fits:
        return  # it is made to fit, and torch need not be there yet
    from ser_kedro.models.checks import check_model

    reward = params.get("reward")
    check_model(
        model,
        lengths,
        sft_when=when,
        last_layers=last,
        policy="ppo" in params,
        new_head=reward is not None and reward.head_width is not None,
        language_loss=reward is not None and reward.lm_weight > 0,
    )


def _nothing_to_read(name: str, env: str | None) -> str:
    makers = (run for run in _WHOLE if name in pipelines[run].all_outputs())
    # The files of several runs are the output of none.
    options = f" --env {env}" if env else ""
    return (
        f"{name}: nothing was made yet, or it is damaged or no longer in the store; run"
        f" kedro run --pipelines {next(makers, _WHOLE[-1])}{options} first"
    )


def _local_credentials(conf: str | Path) -> dict[str, Any]:
    # Under --env NAME Kedro reads conf/NAME in place of conf/local, but whose key
    # it is does not depend on the data.
    try:
        found: dict[str, Any] = OmegaConfigLoader(
            str(conf), base_env="base", default_run_env="local"
        )["credentials"]
    except MissingConfigException:
        return {}
    return found
