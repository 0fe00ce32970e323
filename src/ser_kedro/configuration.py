"""How parameters come together: base, environment, preset, command line."""

from __future__ import annotations

import difflib
import re
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
# Parameters of one word on the command line, whose fields a preset spells out.
NAMED = ("model", "launcher")
# What stands for a name without a preset until it is accepted or refused.
_FALLBACK = {"model": "pretrained", "launcher": "inline"}
_KINDS = {"model": str, "launcher": str, "seed": int}
_EXAMPLES = {"model": "demo", "launcher": "inline", "seed": "0"}
# A path that cannot be a hub id: hidden, absolute, of three parts or with a slash last.
_PLACE = re.compile(r"[./~]|[^/]+/$|[^/]+/[^/]+/")


class ProjectConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with presets and two resolvers.

    A preset is a set of parameters with a name, ``conf/base/presets/model/NAME.yml``
    or ``.../launcher/NAME.yml``; it goes above base and below the environment and
    ``--params``. A model that is no preset (a hub id, a folder) takes the preset
    ``pretrained``; a launcher must be one.

    ``${params:a.b}`` in a catalog is the parameter ``a.b``; ``${last_used:path}`` in
    parameters is what the environment's data were when they were last given.
    """

    def __init__(self, conf_source: str, *args: Any, **kwargs: Any) -> None:
        """Take what ``OmegaConfigLoader`` takes."""
        super().__init__(conf_source, *args, **kwargs)
        self._composed: dict[str, Any] | None = None
        self._check_env()
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
        if set(OWN) & set(self.runtime_params or {}):
            own = {name: self["parameters"].get(name) for name in OWN}
            write_json(self.last_used_file, own)

    def _check_env(self) -> None:
        source = Path(self.conf_source)
        if not self.env or not source.is_dir() or (source / self.env).is_dir():
            return
        known = ", ".join(
            sorted(file.parent.name for file in source.glob("*/globals.yml"))
        )
        raise ParameterError(
            f"--env {self.env}: no such environment in {source}; choose one of {known}"
        )

    def _compose(self) -> dict[str, Any]:
        merged = super().__getitem__("parameters")
        given = dict(self.runtime_params or {})
        preset: dict[str, Any] = {}
        for kind in NAMED:
            preset = _merge(preset, self._preset(kind, merged[kind]))
        changed = _merge(_changes(merged, self._base()), given)
        for kind in NAMED:
            changed.pop(kind, None)  # one word, which the preset has spelt out
        shown = self.env or self.default_run_env
        _check_known(given, _merge(self._without_runtime(), preset), shown)
        self._check_sections(merged, shown)
        _check_choices(merged)
        composed = _merge(_merge(merged, preset), changed)
        _check_loops(composed)
        _check_own(composed)
        return composed

    def _check_sections(self, merged: dict[str, Any], env: str) -> None:
        # Below the first level, the models of typed parameters refuse what is unknown.
        known = {*OWN, *self._base()}
        for name in merged.keys() - known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else "conf/base lists them all"
            raise ParameterError(f"{name}: no such parameter (conf/{env}); {hint}")

    def _base(self) -> dict[str, Any]:
        # Read as plain YAML: a second loader would take over this one's resolvers.
        values: dict[str, Any] = {}
        for file in (Path(self.conf_source) / self.base_env).rglob("parameters*.yml"):
            values |= yaml.safe_load(file.read_text("utf-8")) or {}
        return values

    def _without_runtime(self) -> dict[str, Any]:
        given, self.runtime_params = self.runtime_params, {}
        try:
            return dict(super().__getitem__("parameters"))
        finally:
            self.runtime_params = given

    def _preset(self, kind: str, name: Any) -> dict[str, Any]:
        folder = Path(self.conf_source) / self.base_env / "presets" / kind
        file = folder / f"{name}.yml"
        if not file.is_file():
            if kind == "launcher" and isinstance(name, str):
                raise _unknown_launcher(name, [file.stem for file in folder.iterdir()])
            file = folder / f"{_FALLBACK[kind]}.yml"
        preset = yaml.safe_load(file.read_text("utf-8"))
        # A preset may stand for a hub id; any other name is the model's own.
        return _merge({kind: {"name": name}}, preset)

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


def _unknown_launcher(name: str, known: list[str]) -> ParameterError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f", did you mean {close[0]}?" if close else ""
    choices = ", ".join(sorted(known))
    return ParameterError(f"launcher={name}: no such launcher{hint} (known: {choices})")


def _merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        inner = merged.get(name)
        both = isinstance(inner, dict) and isinstance(value, dict)
        merged[name] = _merge(inner, value) if both else value  # type: ignore[arg-type]
    return merged


def _changes(tree: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return what of ``tree`` is not, or not so, in ``base``."""
    changed: dict[str, Any] = {}
    for name, value in tree.items():
        below = base.get(name)
        if isinstance(value, dict) and isinstance(below, dict):
            if inner := _changes(value, below):
                changed[name] = inner
        elif name not in base or value != below:
            changed[name] = value
    return changed


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
        if not isinstance(known[name], dict) or path in NAMED:
            continue
        if not isinstance(value, dict):
            raise ParameterError(
                f"--params {path}={value}: {path} has parameters of its own, such as"
                f" {path}.{next(iter(known[name]))}"
            )
        _check_known(value, known[name], env, f"{path}.")


def _check_choices(parameters: dict[str, Any]) -> None:
    for name, kind in _KINDS.items():
        value = parameters[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = "a whole number" if kind is int else "a name"
            raise ParameterError(
                f"{name}={value}: must be {wanted}, such as {name}={_EXAMPLES[name]}"
            )
    if parameters["seed"] < 0:
        raise ParameterError(f"seed={parameters['seed']}: must be at least 0")
    model = parameters["model"]
    if _PLACE.match(model) and not Path(model).expanduser().is_dir():
        raise ParameterError(
            f"model={model}: there is no such folder; give the folder of a model, a"
            " hub id (OWNER/NAME) or a preset of conf/base/presets/model"
        )


def _check_loops(parameters: dict[str, Any]) -> None:
    wanted = parameters["self_evolve"]["max_loops"]
    if isinstance(wanted, int) and wanted > max_loops():
        raise ParameterError(
            f"self_evolve.max_loops={wanted}: the graph has {max_loops()} loops; set"
            f" the environment variable {MAX_LOOPS_VARIABLE}={wanted}"
        )


def _check_own(parameters: dict[str, Any]) -> None:
    if parameters.get("path") and not parameters.get("format", True):
        raise ParameterError(
            f"path={parameters['path']}: its format is missing; add format=NAME to"
            " --params (pairs, hh, ser, scored or upvoted)"
        )
