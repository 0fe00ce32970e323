"""How parameters come together: base, presets, environment, command line."""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from kedro.config import OmegaConfigLoader
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from ser_kedro.errors import ParameterError, without_secrets
from ser_kedro.models.gguf_place import PACKAGE, names_gguf
from ser_kedro.pipelines.self_evolve.loops import MAX_LOOPS_VARIABLE, max_loops
from ser_kedro.training.committee_params import check_views

logger = logging.getLogger(__name__)

# Parameters that describe the user's own data, remembered for kedro-viz and notebooks.
OWN = ("path", "format", "test_path", "pool_path", "pool_format")
# Parameters of one word on the command line, whose fields a preset spells out.
NAMED = ("model", "launcher")
Tree = dict[str, Any]

# The format of the demo, which has no file.
_DEMO = "demo_world"
# The preset of a model that is none.
_FALLBACK = "pretrained"
# Those that begin with an underscore are there to be extended alone.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
# Libraries take seeds below 2**32; loops and voters count on from the run's own.
_LARGEST_SEED = 2**32 - 100_000
_KINDS = {"model": str, "launcher": str, "seed": int}
_EXAMPLES = {"model": "demo", "launcher": "inline", "seed": "0"}
# A path that cannot be a hub id: hidden, absolute, of three parts or with a slash last.
_PLACE = re.compile(r"[./~]|[^/]+/$|[^/]+/[^/]+/")


class ProjectConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with presets, remembered data and a resolver.

    A preset is a set of parameters with a name, ``conf/base/presets/model/NAME.yml``
    or ``.../launcher/NAME.yml``; it may ``extends`` another one. Parameters are merged
    in the order base, presets, environment, remembered data, ``--params``: what comes
    later wins, whatever comes before. A model that is no preset (a hub id, a folder, a
    GGUF file) takes the preset ``pretrained``; a launcher must be one.

    An environment whose data are the user's own (its ``path`` is null) remembers those
    that were given last in ``conf/local/ENV.yml``.

    ``${params:a.b}`` in a catalog is the parameter ``a.b``.
    """

    def __init__(self, conf_source: str, *args: Any, **kwargs: Any) -> None:
        """Take what ``OmegaConfigLoader`` takes."""
        super().__init__(conf_source, *args, **kwargs)
        self._composed: Tree | None = None
        self._remembers = False
        self._check_env()
        OmegaConf.register_new_resolver("params", self._parameter, replace=True)

    def __getitem__(self, key: str) -> Tree:
        """Return a configuration by its key, as the base class does.

        Raises:
            ParameterError: If ``--params`` names a parameter that there is not.
        """
        if key != "parameters":
            return super().__getitem__(key)
        if self._composed is None:
            self._composed = super().__getitem__(key)
        return self._composed

    def remember_data(self) -> None:
        """Remember the data that ``--params`` gave, in an environment of one's own.

        Addresses that hold a password or a key are not remembered: kedro-viz shows
        what parameters say.
        """
        parameters = self["parameters"]
        own = {name: parameters[name] for name in OWN if name in parameters}
        given = set(OWN) & set(self.runtime_params or {})
        if not (given and self._remembers and Path(self.conf_source).is_dir()):
            return
        if without_secrets(said := OmegaConf.to_yaml(own)) != said:
            self._remembered_file.unlink(missing_ok=True)  # of data before
            logger.info(
                "The address of the data holds a secret and is not remembered: give it"
                " again with --params"
            )
            return
        text = f"# The data that --env {self.env} was given last.\n"
        self._remembered_file.write_text(text + said, "utf-8")

    @property
    def _remembered_file(self) -> Path:
        return Path(self.conf_source) / self.default_run_env / f"{self.env}.yml"

    def _remembered(self, env: DictConfig, given: DictConfig) -> DictConfig:
        """Return the data that were given last, where others are not given now.

        A new file replaces all of it: an old test set must not be joined to it.
        """
        self._remembers = "path" in env and env["path"] is None
        if (
            not self._remembers
            or "path" in given
            or not self._remembered_file.is_file()
        ):
            return OmegaConf.create()
        try:
            known = OmegaConf.load(self._remembered_file)
            own = set(known) <= set(OWN)  # a list has none of these names
        except (OSError, OmegaConfBaseException, YAMLError, UnicodeDecodeError):
            own = False
        if not own:
            raise ParameterError(
                f"{self._remembered_file}: does not hold the data that were given last;"
                " delete it, and give the data again (--params path=FILE)"
            )
        return cast("DictConfig", known)

    def _check_env(self) -> None:
        base = self._get_conf_env_path(self.base_env)
        source = base.removesuffix(f"/{self.base_env}")
        if not self.env or not self._fs.isdir(base):
            return
        # Folders such as conf/launch hold something else.
        known = {
            "/".join(Path(file).parts[-depth - 1 : -1])
            for depth, pattern in ((1, "*"), (2, "*/*"))
            for file in self._fs.glob(f"{source}/{pattern}/globals.yml")
        }
        if self.env in {*known, self.default_run_env}:
            return
        if any(self._fs.glob(f"{source}/{self.env}/*parameters*.yml")):
            raise ParameterError(
                f"--env {self.env}: {source}/{self.env} has no globals.yml; add one"
                f" that says where its results go, such as data_root: data/{self.env}"
            )
        raise ParameterError(
            f"--env {self.env}: no such environment in {self.conf_source}; choose one"
            f" of {', '.join(sorted(known))}"
        )

    def _resolve_from_raw_config(
        self, key: str, base_configs: Any, env_configs: Any, *rest: Any
    ) -> Tree:
        """Put presets between base and environment; all else as the base class does."""
        if key != "parameters":
            return dict(
                super()._resolve_from_raw_config(key, base_configs, env_configs, *rest)
            )
        base, env = (
            _merged(*configs.values()) for configs in (base_configs, env_configs)
        )
        return self._compose(base, env, OmegaConf.create(self.runtime_params or {}))

    def _compose(self, base: DictConfig, env: DictConfig, given: DictConfig) -> Tree:
        shown = self.env or self.default_run_env
        chosen = _merged(base, env, given)
        _check_choices({name: chosen[name] for name in _KINDS})
        _check_own_env(_merged(base, env), given)
        presets = [self._preset(kind, chosen[kind]) for kind in NAMED]
        remembered = self._remembered(env, given)
        # One word each, which the preset has spelt out.
        layers = [_without_names(part) for part in (base, env)]
        known = _merged(layers[0], *presets, layers[1], remembered)
        runtime = _without_names(given)
        below = _plain(_merged(layers[0], *presets))
        _check_known(_plain(layers[1]), below, f"conf/{shown}:")
        _check_known(_plain(runtime), _plain(known), "--params")
        composed = _plain(_merged(known, runtime))
        _check_loops(composed)
        _check_voters(composed)
        _check_committee(composed)
        _check_language_loss(composed)
        return composed

    def _preset(self, kind: str, name: str) -> DictConfig:
        folder = f"{self._get_conf_env_path(self.base_env)}/presets/{kind}"
        # A name, not a path: a file elsewhere must not become a preset.
        if _NAME.fullmatch(name) and self._fs.isfile(f"{folder}/{name}.yml"):
            preset = self._read_preset(folder, name)
        elif kind == "launcher":
            known = [Path(each).stem for each in self._fs.glob(f"{folder}/[!_]*.yml")]
            raise _unknown_launcher(name, known)
        else:
            preset = self._read_preset(folder, _FALLBACK)
        # A preset may stand for a hub id; any other name is the model's own.
        return _merged(OmegaConf.create({kind: {"name": name}}), preset)

    def _read_preset(self, folder: str, name: str) -> DictConfig:
        with self._fs.open(f"{folder}/{name}.yml", "r", encoding="utf-8") as stream:
            preset = cast("DictConfig", OmegaConf.load(stream))
        if (parent := preset.pop("extends", None)) is None:
            return preset
        return _merged(self._read_preset(folder, parent), preset)

    def _parameter(self, path: str) -> Any:
        value: Any = self["parameters"]
        for name in path.split("."):
            value = value[name]
        return value


def _merged(*configs: DictConfig) -> DictConfig:
    return cast("DictConfig", OmegaConf.merge(OmegaConf.create(), *configs))


def _plain(config: DictConfig) -> Tree:
    return cast("Tree", OmegaConf.to_container(config, resolve=True))


def _without_names(config: DictConfig) -> DictConfig:
    others = [str(name) for name in config if name not in NAMED]
    return OmegaConf.masked_copy(config, others)


def _unknown_launcher(name: str, known: list[str]) -> ParameterError:
    close = difflib.get_close_matches(name, known, 1)
    hint = f", did you mean {close[0]}?" if close else ""
    choices = ", ".join(sorted(known))
    return ParameterError(f"launcher={name}: no such launcher{hint} (known: {choices})")


def _leaves(tree: Tree, prefix: str = "") -> Iterator[str]:
    for name, value in tree.items():
        yield f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")


def _check_known(given: Tree, known: Tree, place: str, prefix: str = "") -> None:
    """Refuse what is not known below; an empty section of base is open to any name."""
    for name, value in given.items():
        path = f"{prefix}{name}"
        if name not in known:
            everything = [f"{prefix}{leaf}" for leaf in _leaves(known)]
            close = difflib.get_close_matches(path, everything, 1, 0.6)
            hint = f"did you mean {close[0]}?" if close else "conf/base lists them all"
            raise ParameterError(f"{place} {path}: no such parameter; {hint}")
        inside = known[name]
        if value is None or not (inside and isinstance(inside, dict)) or path in NAMED:
            continue
        if not isinstance(value, dict):
            raise ParameterError(
                f"{place} {path}={value}: {path} has parameters of its own, such as"
                f" {path}.{next(iter(inside))}"
            )
        _check_known(value, inside, place, f"{path}.")


def _check_choices(parameters: Tree) -> None:
    for name, kind in _KINDS.items():
        value = parameters[name]
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = "a whole number" if kind is int else "a name"
            raise ParameterError(
                f"{name}={value}: must be {wanted}, such as {name}={_EXAMPLES[name]}"
            )
    if not 0 <= (seed := parameters["seed"]) <= _LARGEST_SEED:
        raise ParameterError(
            f"seed={seed}: must be at least 0 and at most {_LARGEST_SEED}"
        )
    _check_place(parameters["model"])


def _check_place(model: str) -> None:
    """Refuse the path of a model that is not there."""
    if model.startswith(PACKAGE):
        return  # what loads it says what to install
    place = Path(model).expanduser()
    if names_gguf(place):
        if not place.is_file():
            raise ParameterError(
                f"model={model}: there is no such file; give a GGUF file, the folder of"
                " a model, a hub id (OWNER/NAME) or a preset of"
                " conf/base/presets/model"
            )
    elif _PLACE.match(model) and not place.is_dir():
        raise ParameterError(
            f"model={model}: there is no such folder; give the folder of a model, a"
            " GGUF file, a hub id (OWNER/NAME) or a preset of conf/base/presets/model"
        )


def _check_loops(parameters: Tree) -> None:
    wanted = parameters["self_evolve"]["max_loops"]
    if isinstance(wanted, int) and wanted > max_loops():
        raise ParameterError(
            f"self_evolve.max_loops={wanted}: the graph has {max_loops()} loops; set"
            f" the environment variable {MAX_LOOPS_VARIABLE}={wanted}"
        )


def _check_voters(parameters: Tree) -> None:
    voters = parameters["reward"].get("voters", 1)
    crossfit = parameters["data_split"]["validation"] == "crossfit"
    if crossfit and isinstance(voters, int) and voters > 1:
        raise ParameterError(
            f"reward.voters={voters}: voters are calibrated on labels that are held"
            " out; add data_split.validation=holdout"
        )


def _check_committee(parameters: Tree) -> None:
    views = parameters["reward"].get("views")
    committee = parameters["self_evolve"].get("labeller") == "committee"
    if committee and isinstance(views, list):
        check_views(len(views))


def _check_language_loss(parameters: Tree) -> None:
    weight = parameters["reward"].get("lm_weight")
    start = parameters["self_evolve"].get("start")
    if weight and start in ("previous", "seed"):
        raise ParameterError(
            f"reward.lm_weight={weight}: a loop that starts from a reward model"
            f" (self_evolve.start={start}) has no language-model head; add"
            " self_evolve.start=sft"
        )


def _check_own_env(known: DictConfig, given: DictConfig) -> None:
    # The demo's results must not be mixed with those of somebody's data.
    own = [name for name in OWN if name in given]
    if own and known["format"] == _DEMO:
        raise ParameterError(f"--params {own[0]}: data of your own need --env own")
