"""How the launcher comes together from its preset and the command line."""

from pathlib import Path

import pytest

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
