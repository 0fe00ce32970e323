"""How parameters come together: base, presets, environment, command line."""

import shutil
from pathlib import Path

import pytest
import yaml

from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.errors import ParameterError
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[1] / "conf"
PRESETS = sorted((CONF / "base" / "presets" / "launcher").glob("*.yml"))


def parameters(env="test", **given):
    loader = ProjectConfigLoader(
        str(CONF), env=env, runtime_params=given, **CONFIG_LOADER_ARGS
    )
    return loader["parameters"]


def launcher(**given):
    return LauncherParams(**parameters(**given)["launcher"])


def test_without_a_word_it_is_inline():
    assert launcher() == INLINE


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_preset_is_one_word(file):
    params = launcher(launcher=file.stem)

    assert params.name == file.stem
    assert (params.kind == "inline") == (file.stem == "inline")


@pytest.mark.parametrize("file", PRESETS, ids=lambda file: file.stem)
def test_a_launcher_changes_nothing_else(file):
    plain, launched = parameters(), parameters(launcher=file.stem)
    del plain["launcher"], launched["launcher"]

    assert plain == launched


def test_a_model_and_a_launcher_at_once():
    both = parameters(model="llama3_8b", launcher="gpu8_zero2", **{"seed": 3})

    assert both["reward"]["lora"]["r"] == 8
    assert (both["launcher"]["processes"], both["seed"]) == (8, 3)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nosuch",
            r"^launcher=nosuch: no such launcher \(known: cpu2_ddp, .*, inline",
        ),
        ("gpu8_zero4", r"did you mean gpu8_zero\d\? \(known: "),
        (7, "^launcher=7: must be a name, such as launcher=inline$"),
        ({"processes": 4}, r"^launcher=.*: must be a name, such as launcher=inline$"),
    ],
)
def test_an_unknown_launcher(name, said):
    with pytest.raises(ParameterError, match=said):
        parameters(launcher=name)


def test_the_tested_road_is_the_shipped_one():
    """Environment ``test`` has other sizes and thresholds than the demo, no more."""
    shipped, tested = parameters("base"), parameters("test")
    thresholds = {"min_share", "min_count", "tau_high", "tau_low"}

    assert differing(shipped["self_evolve"], tested["self_evolve"]) == thresholds
    assert differing(shipped["evaluation"], tested["evaluation"]) == {"resamples"}
    assert shipped["data_split"] == tested["data_split"]
    sizes = {"epochs", "learning_rate", "warmup_steps", "save_steps"}
    for section in ("sft", "reward"):
        assert differing(shipped[section], tested[section]) <= sizes


def differing(one, other):
    assert one.keys() == other.keys()
    return {name for name in one if one[name] != other[name]}


class TestPrecedence:
    """Base, then presets, then the environment, then the command line."""

    @pytest.fixture
    def conf(self, tmp_path):
        """A small configuration, written from the given parts."""

        def write(base=None, preset=None, env=None):
            parts = {
                "base/parameters.yml": {**DEFAULTS, **(base or {})},
                "base/globals.yml": {"data_root": "data"},
                "base/presets/model/mine.yml": preset or {},
                "base/presets/model/pretrained.yml": {"reward": {"epochs": 77}},
                "base/presets/launcher/inline.yml": {"launcher": {"kind": "inline"}},
                "mine/parameters.yml": {"model": "mine", **(env or {})},
            }
            for name, values in parts.items():
                file = tmp_path / "conf" / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(yaml.safe_dump(values), "utf-8")
            return tmp_path / "conf"

        return write

    def epochs(self, conf, **given):
        return self.load(conf, **given)["reward"]["epochs"]

    def load(self, conf, **given):
        return ProjectConfigLoader(
            str(conf), env="mine", runtime_params=given, **CONFIG_LOADER_ARGS
        )["parameters"]

    def test_base_alone(self, conf):
        assert self.epochs(conf(reward(1))) == 1

    def test_a_preset_wins_over_base(self, conf):
        assert self.epochs(conf(reward(1), reward(2))) == 2

    def test_the_environment_wins_over_a_preset(self, conf):
        assert self.epochs(conf(reward(1), reward(2), reward(3))) == 3

    def test_the_environment_can_set_a_value_back_to_that_of_base(self, conf):
        assert self.epochs(conf(reward(1), reward(2), reward(1))) == 1

    def test_the_command_line_wins_over_all(self, conf):
        written = conf(reward(1), reward(2), reward(3))
        assert self.epochs(written, reward={"epochs": 4}) == 4
        assert self.epochs(written, reward={"epochs": 1}) == 1

    def test_a_model_without_a_preset_takes_that_of_pretrained(self, conf):
        found = self.load(conf(reward(1)), model="owner/name")
        assert (found["reward"]["epochs"], found["model"]) == (
            77,
            {"name": "owner/name"},
        )

    def test_no_file_elsewhere_is_a_preset(self, conf, tmp_path):
        """M: ``model=DIR/plain`` with ``DIR/plain.yml`` beside it set parameters."""
        written = conf(reward(1))
        folder = written / "base" / "presets" / "other"
        (folder / "plain").mkdir(parents=True)
        (folder / "plain.yml").write_text("reward: {epochs: 9}")
        with pytest.raises(ParameterError, match="no such launcher"):
            self.load(written, launcher="../other/plain")
        assert self.epochs(written, model=str(folder / "plain")) == 77

    def test_an_archive_is_read_like_a_folder(self, conf, tmp_path):
        written = conf(reward(1), reward(2), reward(3))
        archive = shutil.make_archive(
            str(tmp_path / "conf"), "gztar", tmp_path, written.name
        )
        assert self.load(archive) == self.load(written)


def reward(epochs):
    return {"reward": {"epochs": epochs}}


DEFAULTS = {
    "model": "mine",
    "launcher": "inline",
    "seed": 0,
    "self_evolve": {"max_loops": None},
    **reward(0),
}
