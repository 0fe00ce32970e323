"""How parameters come together: base, presets, environment, command line."""

import shutil
from pathlib import Path

import pytest
import yaml

from ser_kedro.ablations.params import AblationParams, PolicyComparisonParams
from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.errors import ParameterError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.models.gguf_place import SMOLLM2
from ser_kedro.models.params import ModelParams
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.settings import CONFIG_LOADER_ARGS
from ser_kedro.training.params import RewardParams, SftParams

CONF = Path(__file__).parents[1] / "conf"
PRESETS = sorted((CONF / "base" / "presets" / "launcher").glob("*.yml"))
MODELS = sorted((CONF / "base" / "presets" / "model").glob("*.yml"))
# All but the one that puts the others' results together.
EXPERIMENTS = sorted(
    place
    for place in (CONF / "experiments").iterdir()
    if not place.name.startswith("docs")
)
SECTIONS = {
    "sft": SftParams,
    "reward": RewardParams,
    "self_evolve": EvolutionParams,
    "data_split": SplitParams,
    "evaluation": EvaluationParams,
    "pool": PoolParams,
    "ppo": PpoParams,
    "policy_evaluation": PolicyEvaluationParams,
    "policy_evaluation.judge": JudgeParams,
    "data.world": WorldParams,
    "acquisition": AcquisitionParams,
    "ablations": AblationParams,
    "policy_comparison": PolicyComparisonParams,
}


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
    assert differing(shipped["data_split"], tested["data_split"]) == {"validation"}
    sizes = {"epochs", "learning_rate", "warmup_steps", "save_steps"}
    for section in ("sft", "reward"):
        assert differing(shipped[section], tested[section]) <= sizes


def test_data_of_ones_own_meet_the_file_of_smollm2_that_is_verified():
    assert parameters("own")["model"]["name"] == SMOLLM2


def test_sft_that_is_skipped_reads_no_pool():
    with pytest.raises(ValueError, match="pool=text is for SFT, which when=never"):
        SftParams(**parameters()["sft"] | {"when": "never", "pool": "text"})


def test_voters_need_labels_that_are_held_out():
    voters = {"reward": {"voters": 3}}
    with pytest.raises(ParameterError, match="reward.voters=3: voters are calibrated"):
        parameters("base", **voters)

    found = parameters("base", **voters, data_split={"validation": "holdout"})
    assert found["reward"]["voters"] == 3


@pytest.mark.parametrize("start", ["previous", "seed"])
def test_the_loss_of_a_language_model_needs_one_to_start_from(start):
    evolve = {"start": start}
    with pytest.raises(ParameterError, match="reward.lm_weight=0.01: a loop that sta"):
        parameters("base", self_evolve=evolve, reward={"lm_weight": 0.01})

    assert parameters("base", self_evolve=evolve)["reward"]["lm_weight"] == 0
    assert parameters("base", reward={"lm_weight": 0.01})["reward"]["lm_weight"] == 0.01


def test_a_committee_needs_views():
    one = {"labeller": "committee"}
    with pytest.raises(ParameterError, match="needs 2 views or more, not 0"):
        parameters("base", self_evolve=one, reward={"views": []})

    assert parameters("base", reward={"views": []})["reward"]["views"] == []


class TestBase:
    """``conf/base`` lists every parameter, with the defaults of the classes."""

    @pytest.fixture
    def base(self):
        read = {}
        for file in (CONF / "base").rglob("parameters.yml"):
            read |= yaml.safe_load(file.read_text("utf-8"))
        return read

    @pytest.mark.parametrize("section", SECTIONS)
    def test_lists_every_parameter(self, base, section):
        """What is not listed could not be given: unknown parameters are errors."""
        assert set(at(base, section)) == set(SECTIONS[section].model_fields)

    @pytest.mark.parametrize("section", SECTIONS)
    def test_gives_the_default_of_the_class(self, base, section):
        fields = SECTIONS[section].model_fields
        given = {name: at(base, section)[name] for name in fields}
        if section == "policy_evaluation.judge":
            given["model"] = "m"  # which switches it on
        if section == "policy_evaluation":
            given.pop("judge")  # off, as it is without a model
        needed = {name: given[name] for name in given if fields[name].is_required()}
        both = SECTIONS[section](**given), SECTIONS[section](**needed)
        assert both[0] == both[1]

    @pytest.mark.parametrize("file", MODELS, ids=lambda file: file.stem)
    def test_a_preset_is_a_difference(self, base, file):
        """Nothing that it says was so without it, and all of it is known."""
        preset = yaml.safe_load(file.read_text("utf-8"))
        above = read_preset(base, preset.pop("extends", None))
        said = [*leaves(preset)]
        assert said
        for path, value in said:
            if path[0] != "model":
                assert ".".join(path) in known_paths(base)
                assert found(above, path) != value, path
            else:
                assert path[1] in ModelParams.model_fields

    @pytest.mark.parametrize("folder", EXPERIMENTS, ids=lambda folder: folder.name)
    def test_an_experiment_is_whole(self, folder):
        """Its runs are known, and no two of its variants say the same."""
        values = parameters(f"experiments/{folder.name}")
        runs = AblationParams(**values["ablations"])
        assert set(runs.variants) <= set(runs.methods)
        evolved = [
            (
                variant.method,
                {name: {**values[name], **getattr(variant, name)} for name in CHANGED},
            )
            for variant in map(runs.variant, runs.methods)
        ]
        assert all(one not in evolved[:i] for i, one in enumerate(evolved))


CHANGED = ("sft", "reward", "self_evolve")


def at(tree, path):
    for name in path.split("."):
        tree = tree[name]
    return tree


def leaves(tree, above=()):
    for name, value in tree.items():
        if isinstance(value, dict) and name not in {"lora", "scratch"}:
            yield from leaves(value, (*above, name))
        else:
            yield (*above, name), value


def known_paths(base):
    return {".".join(path) for path, _ in leaves(base)} | {"ppo.lora"}


def found(tree, path):
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            return None
        tree = tree[name]
    return tree


def read_preset(base, name):
    """Return base with a preset (and those that it extends) above it."""
    if name is None:
        return base
    preset = yaml.safe_load((MODELS[0].parent / f"{name}.yml").read_text("utf-8"))
    return merged(read_preset(base, preset.pop("extends", None)), preset)


def merged(below, above):
    both = below | above
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            both[name] = merged(below[name], above[name])
    return both


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
                "mine/globals.yml": {"data_root": "data/mine"},
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

    @pytest.mark.parametrize("name", ["some.gguf", "at/a/place/some.gguf"])
    def test_a_gguf_file_takes_that_of_pretrained(
        self, conf, tmp_path, monkeypatch, name
    ):
        monkeypatch.chdir(tmp_path)
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
        for model in (name, str(tmp_path / name)):
            found = self.load(conf(reward(1)), model=model)
            assert found["model"] == {"name": model}
            assert found["reward"]["epochs"] == 77

    @pytest.mark.parametrize("name", ["no.gguf", "./no.gguf", "owner/no.gguf"])
    def test_a_gguf_file_that_is_not_there_is_one_line(self, conf, name):
        said = f"^model={name}: there is no such file; give a GGUF file, .*$"
        with pytest.raises(ParameterError, match=said):
            self.load(conf(), model=name)

    def test_a_preset_that_extends_another(self, conf):
        written = conf(reward(1), {"extends": "pretrained", "seed": 5})
        found = self.load(written)
        assert (found["reward"], found["seed"]) == ({"epochs": 77}, 5)

    def test_what_is_only_there_to_be_extended(self, conf):
        written = conf(reward(1), {"extends": "_large"})
        folder = written / "base" / "presets" / "model"
        (folder / "_large.yml").write_text("reward: {epochs: 9}")
        assert self.epochs(written) == 9
        assert self.epochs(written, model="_large") == 77  # no preset: a hub id

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

    def test_an_environment_says_where_its_results_go(self, conf):
        """Else they would be taken for the demo's."""
        written = conf()
        (written / "mine" / "globals.yml").unlink()
        with pytest.raises(ParameterError, match=r"no globals\.yml; add one"):
            self.load(written)

    class TestOwnData:
        """An environment whose data are the user's own remembers those given last."""

        @pytest.fixture
        def own(self, conf):
            written = conf(env=dict.fromkeys(("path", "format", "test_path")))
            (written / "local").mkdir()
            return written

        def run(self, conf, **given):
            loader = ProjectConfigLoader(
                str(conf), env="mine", runtime_params=given, **CONFIG_LOADER_ARGS
            )
            loader.remember_data()
            return [loader["parameters"][name] for name in ("path", "format")]

        def test_remembers(self, own):
            assert self.run(own) == [None, None]
            assert self.run(own, path="a", format="pairs") == ["a", "pairs"]
            assert self.run(own) == ["a", "pairs"]
            written = (own / "local" / "mine.yml").read_text("utf-8")
            assert yaml.safe_load(written)["path"] == "a"

        def test_a_new_file_replaces_all_of_it(self, own):
            self.run(own, path="a", format="pairs", test_path="t")
            assert self.run(own, path="b") == ["b", None]
            assert self.run(own, path="b", format="hh") == ["b", "hh"]
            loaded = ProjectConfigLoader(str(own), env="mine", **CONFIG_LOADER_ARGS)
            assert loaded["parameters"]["test_path"] is None

        @pytest.mark.parametrize("text", ["a: [b", "[1, 2]", "rubbish", "seed: 1"])
        def test_what_cannot_be_remembered_is_refused(self, own, text):
            (own / "local" / "mine.yml").write_text(text)

            with pytest.raises(ParameterError, match=r"mine.yml: does not hold .* del"):
                self.run(own)
            assert self.run(own, path="a", format="pairs") == ["a", "pairs"]
            assert self.run(own) == ["a", "pairs"]

        def test_what_has_data_of_its_own_remembers_nothing(self, conf):
            written = conf()
            assert self.run(written, path="a", format="pairs") == ["a", "pairs"]
            assert not [*written.glob("local/*")]
            assert self.run(written) == ["shipped", "hh"]


def reward(epochs):
    return {"reward": {"epochs": epochs}}


DEFAULTS = {
    "model": "mine",
    "launcher": "inline",
    "seed": 0,
    "path": "shipped",
    "format": "hh",
    "test_path": None,
    "self_evolve": {"max_loops": None},
    "data_split": {"validation": "holdout"},
    **reward(0),
}
