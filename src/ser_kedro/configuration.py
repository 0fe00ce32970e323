"""How parameters come together: base, environment, preset, command line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from ser_kedro.errors import ParameterError
from ser_kedro.pipelines.self_evolve.loops import MAX_LOOPS_VARIABLE, max_loops
from ser_kedro.store.json_io import read_json, write_json

# Parameters that describe the user's own data, remembered for kedro-viz and notebooks.
OWN = ("path", "format", "test_path")
# Parameters of one word on the command line, whose fields a preset spells out.
NAMED = ("model", "launcher")
# The preset of a model that is none.
_FALLBACK = "pretrained"
_NAME = re.compile(r"[\w-][\w.-]*")
_KINDS = {"model": str, "launcher": str, "seed": int}
_EXAMPLES = {"model": "demo", "launcher": "inline", "seed": "0"}
# A path that cannot be a hub id: hidden, absolute, of three parts or with a slash last.
_PLACE = re.compile(r"[./~]|[^/]+/$|[^/]+/[^/]+/")


class ProjectConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with presets and two resolvers.

    A preset is a set of parameters with a name, ``conf/base/presets/model/NAME.yml``
    or ``.../launcher/NAME.yml``. Parameters are merged in the order base, presets,
    environment, ``--params``: what comes later wins, whatever comes before. A model
    that is no preset (a hub id, a folder) takes the preset ``pretrained``; a launcher
    must be one.

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
            self._composed = super().__getitem__(key)
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
        base = self._get_conf_env_path(self.base_env)
        source = base.removesuffix(f"/{self.base_env}")
        if not self.env or not self._fs.isdir(base):
            return
        if self._fs.isdir(f"{source}/{self.env}"):
            return
        files = self._fs.glob(f"{source}/*/globals.yml")
        known = ", ".join(sorted(Path(file).parent.name for file in files))
        raise ParameterError(
            f"--env {self.env}: no such environment in {self.conf_source}; choose one"
            f" of {known}"
        )

    def _resolve_from_raw_config(
        self, key: str, base_configs: Any, env_configs: Any, *rest: Any
    ) -> dict[str, Any]:
        """Put presets between base and environment; all else as the base class does."""
        if key != "parameters":
            return dict(
                super()._resolve_from_raw_config(key, base_configs, env_configs, *rest)
            )
        base, env = (
            OmegaConf.merge(*configs.values()) if configs else OmegaConf.create()
            for configs in (base_configs, env_configs)
        )
        return self._compose(base, env, OmegaConf.create(self.runtime_params or {}))

    def _compose(self, base: Any, env: Any, given: Any) -> dict[str, Any]:
        shown = self.env or self.default_run_env
        _check_sections(env, {*OWN, *base}, shown)
        chosen: Any = OmegaConf.merge(base, env, given)
        _check_choices({name: chosen[name] for name in _KINDS})
        presets = [self._preset(kind, chosen[kind]) for kind in NAMED]
        # One word each, which the preset has spelt out.
        layers = [OmegaConf.masked_copy(part, [*_others(part)]) for part in (base, env)]
        known = OmegaConf.merge(layers[0], *presets, layers[1])
        runtime = OmegaConf.masked_copy(given, [*_others(given)])
        _check_known(_plain(runtime), _plain(known), shown)
        composed: dict[str, Any] = _plain(OmegaConf.merge(known, runtime))
        _check_loops(composed)
        _check_own(composed)
        return composed

    def _preset(self, kind: str, name: str) -> Any:
        folder = f"{self._get_conf_env_path(self.base_env)}/presets/{kind}"
        file = f"{folder}/{name}.yml"
        # A name, not a path: a file elsewhere must not become a preset.
        if not _NAME.fullmatch(name) or not self._fs.isfile(file):
            if kind == "launcher":
                known = [Path(each).stem for each in self._fs.glob(f"{folder}/*.yml")]
                raise _unknown_launcher(name, known)
            file = f"{folder}/{_FALLBACK}.yml"
        with self._fs.open(file, "r", encoding="utf-8") as stream:
            preset = OmegaConf.load(stream)
        # A preset may stand for a hub id; any other name is the model's own.
        return OmegaConf.merge({kind: {"name": name}}, preset)

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


def _plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def _others(config: Any) -> Iterator[str]:
    return (str(name) for name in config if name not in NAMED)


def _unknown_launcher(name: str, known: list[str]) -> ParameterError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f", did you mean {close[0]}?" if close else ""
    choices = ", ".join(sorted(known))
    return ParameterError(f"launcher={name}: no such launcher{hint} (known: {choices})")


def _check_sections(env: Any, known: set[str], shown: str) -> None:
    # Below the first level, the models of typed parameters refuse what is unknown.
    for name in env.keys() - known:
        close = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else "conf/base lists them all"
        raise ParameterError(f"{name}: no such parameter (conf/{shown}); {hint}")


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
