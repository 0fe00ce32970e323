"""What happens around a run."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from pydantic import SecretStr

from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.store.references import PROJECT_VARIABLE

SUMMARY = "evolution_summary"
JUDGE = "judge"


class ProjectHooks:
    """Tell jobs where the project is, remember own data, print the summary."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Set the project's root for this process and its children."""
        os.environ[PROJECT_VARIABLE] = str(context.project_path)
        self._loader = context.config_loader
        # A table whose file is replaced by a newer version is no mistake of the user.
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
    def after_node_run(self, node: Node) -> None:
        """Remember the user's own data once they have been read to the end."""
        if node.name == "split" and isinstance(self._loader, ProjectConfigLoader):
            self._loader.remember_data()

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Print the table that the run was for, if it came as far as that."""
        if SUMMARY in pipeline.all_outputs():
            print(f"\n{catalog.load(SUMMARY)}")


def _local_credentials(conf: str | Path) -> dict[str, Any]:
    # Under --env NAME Kedro reads conf/NAME in the place of conf/local, but whose key
    # it is does not depend on the data.
    try:
        found: dict[str, Any] = OmegaConfigLoader(
            str(conf), base_env="base", default_run_env="local"
        )["credentials"]
    except MissingConfigException:
        return {}
    return found
