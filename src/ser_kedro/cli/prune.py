"""``ser-kedro prune`` and ``history``: what runs have left, and what of it can go."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ser_kedro.errors import StoreError
from ser_kedro.self_evolution.state import PLAIN
from ser_kedro.store.layout import STORE, project_root
from ser_kedro.store.prune import carry_out, make_plan

_MEGABYTE = 1e6


def prune(keep: int, spare_hours: float, dry_run: bool) -> Iterator[str]:
    """Remove old versions, and the jobs that none of the others needs; yield lines.

    Args:
        keep: Versions of each dataset that stay.
        spare_hours: As of ``make_plan``.
        dry_run: Only say what would go.
    """
    plan = make_plan(data_folders(project_root() / "conf"), keep, spare_hours)
    size = plan.size
    for job in plan.jobs if dry_run else ():
        yield f"{job.parent.name} {job.name}"
    if not dry_run:
        carry_out(plan)
    yield (
        f"{'Would remove' if dry_run else 'Removed'} {len(plan.versions):,} versions"
        f" and {len(plan.jobs):,} jobs, {size / _MEGABYTE:,.1f} MB; {plan.kept:,} jobs"
        " stay"
    )


def history() -> str:
    """Return the runs that left a table of their loops, the newest last."""
    root = project_root()
    rows = []
    for place in data_folders(root / "conf"):
        for file in place.glob("08_reporting/evolution_history.parquet/*/*.parquet"):
            frame = pd.read_parquet(file)
            kept = frame[frame["selected_model"]].iloc[0]
            first = frame[frame["status"].isin(["seed", PLAIN])].iloc[-1]
            rows.append(
                {
                    "run": file.parent.name,
                    "data": str(place).removeprefix(f"{root}/"),
                    "compared with": first["status"],
                    "test accuracy": f"{first['test_accuracy']:.1%}",
                    "kept": f"{kept['loop']} ({kept['status']})",
                    "its test accuracy": f"{kept['test_accuracy']:.1%}",
                }
            )
    if not rows:
        return "No run has left a table of its loops yet."
    table = pd.DataFrame(rows).sort_values("run")
    return str(table.to_markdown(index=False, disable_numparse=True))


def data_folders(conf: Path) -> list[Path]:
    """Return the folders of the data of all environments of a configuration.

    Args:
        conf: The folder of the configuration.

    Raises:
        StoreError: If an environment does not say where its data lie: versions there
            may need what would be pruned.
    """
    found = {project_root() / STORE.parent}
    for file in sorted(conf.rglob("globals.yml")):
        try:
            named = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
        except (OSError, OmegaConfBaseException, YAMLError) as error:
            raise StoreError(
                f"{file}: its data_root cannot be read ({type(error).__name__}); mend"
                " it first, since versions there may need what would go"
            ) from error
        if isinstance(named, dict) and "data_root" in named:
            found.add(project_root() / str(named["data_root"]))
    return sorted(found)
