"""How parameters come together: base, environment, preset, command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from ser_kedro.errors import ParameterError
from ser_kedro.launch.json import read_json, write_json
from ser_kedro.pipelines.self_evolve.loops import MAX_LOOPS_VARIABLE, max_loops

# Parameters that describe the user's own data, remembered for kedro-viz and notebooks.
OWN = ("path", "format", "test_path")
_PRETRAINED = "pretrained"


class ProjectConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with model presets and two resolvers.

    A preset is a set of parameters with a name, ``conf/base/presets/model/NAME.yml``;
    it goes above base and environment and below ``--params``. A model that is no
    preset (a hub id, a folder) takes the preset ``pretrained``.

    ``${params:a.b}`` in a catalog is the parameter ``a.b``; ``${last_used:path}`` in
    parameters is what the environment's data were when they were last given.
    """

    def __init__(self, conf_source: str, *args: Any, **kwargs: Any) -> None:
        """Take what ``OmegaConfigLoader`` takes."""
        super().__init__(conf_source, *args, **kwargs)
        self._composed: dict[str, Any] | None = None
        OmegaConf.register_new_resolver("params", self._parameter, replace=True)
        OmegaConf.register_new_resolver("last_used", self._last_used, replace=True)

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return a configuration by its key, as the base class does.

        Raises:
            ParameterError: If ``--params`` names a parameter that there is not.
        """
        if key != "parameters":
            return super().__getitem__(key)
        if self._composed is None:
            self._composed = self._compose()
        return self._composed

    @property
    def last_used_file(self) -> Path:
        """Where the environment's own data are remembered."""
        root = self["globals"]["data_root"]
        return Path(self.conf_source).parent / root / "last_used.json"

    def remember_data(self) -> None:
        """Remember the data that ``--params`` gave, if it gave any."""
        if "path" in (self.runtime_params or {}):
            own = {name: self["parameters"].get(name) for name in OWN}
            write_json(self.last_used_file, own)

    def _compose(self) -> dict[str, Any]:
        merged = super().__getitem__("parameters")
        given = dict(self.runtime_params or {})
        preset = self._preset(merged["model"])
        known = _merge(merged, preset)
        shown = self.env or self.default_run_env
        _check_known(given, _merge(self._without_runtime(), preset), shown)
        _check_choices(given)
        composed = _merge(known, {k: v for k, v in given.items() if k != "model"})
        _check_loops(composed)
        return composed

    def _without_runtime(self) -> dict[str, Any]:
        given, self.runtime_params = self.runtime_params, {}
        try:
            return dict(super().__getitem__("parameters"))
        finally:
            self.runtime_params = given

    def _preset(self, model: str) -> dict[str, Any]:
        folder = Path(self.conf_source) / self.base_env / "presets" / "model"
        file = folder / f"{model}.yml"
        if not file.is_file():
            file = folder / f"{_PRETRAINED}.yml"
        preset = yaml.safe_load(file.read_text("utf-8"))
        # A preset may stand for a hub id; any other name is the model's own.
        return _merge({"model": {"name": model}}, preset)

    def _parameter(self, path: str) -> Any:
        value: Any = self["parameters"]
        for name in path.split("."):
            value = value[name]
        return value

    def _last_used(self, name: str) -> Any:
        # Data given now replace the remembered ones altogether: an old test set must
        # not be joined to a new file.
        if "path" in (self.runtime_params or {}) or not self.last_used_file.is_file():
            return None
        return read_json(self.last_used_file).get(name)


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        inner = merged.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[name] = _merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def _leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")


def _check_known(
    given: dict[str, Any], known: dict[str, Any], env: str, prefix: str = ""
) -> None:
    for name, value in given.items():
        path = f"{prefix}{name}"
        if name not in known:
            everything = [f"{prefix}{leaf}" for leaf in _leaves(known)]
            close = difflib.get_close_matches(path, everything, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else "conf/ lists them all"
            if path in OWN:
                hint = "data of your own need --env own"
            raise ParameterError(
                f"--params {path}: no such parameter in environment {env}; {hint}"
            )
        if isinstance(value, dict) and isinstance(known[name], dict):
            # The model is named by one word; its fields come from the preset.
            _check_known(value, known[name], env, f"{path}.")


def _check_choices(given: dict[str, Any]) -> None:
    for name, kind in {"model": str, "launcher": str, "seed": int}.items():
        if name in given and (
            not isinstance(given[name], kind) or isinstance(given[name], bool)
        ):
            wanted = "a whole number" if kind is int else "a name"
            raise ParameterError(
                f"--params {name}={given[name]}: must be {wanted}, such as"
                f" {name}={'0' if kind is int else 'demo'}"
            )


def _check_loops(parameters: dict[str, Any]) -> None:
    wanted = parameters["self_evolve"]["max_loops"]
    if isinstance(wanted, int) and wanted > max_loops():
        raise ParameterError(
            f"self_evolve.max_loops={wanted}: the graph has {max_loops()} loops; set"
            f" the environment variable {MAX_LOOPS_VARIABLE}={wanted}"
        )
