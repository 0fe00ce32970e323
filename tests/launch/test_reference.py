import pytest

from ser_kedro.errors import StoreError
from ser_kedro.launch.checkpoint import Checkpoint
from ser_kedro.launch.reference import (
    PROJECT_VARIABLE,
    Reference,
    project_root,
    reference_of,
)

REFERENCE = Reference(
    kind="reward_model", path="data/store/x/y", fingerprint="abc", base_model="tiny"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delenv(PROJECT_VARIABLE, raising=False)
    deep = tmp_path / "project" / "notebooks" / "deep"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    return tmp_path / "project"


def test_a_reference_points_into_the_project(project):
    path = project / "data" / "store" / "x" / "y"
    path.mkdir(parents=True)

    assert REFERENCE.location == path


def test_a_reference_to_nothing_says_what_to_do(project):
    with pytest.raises(
        StoreError, match="reward_model abc: nothing at .*/x/y; run the"
    ):
        _ = REFERENCE.location


def test_a_reference_survives_json():
    assert Reference.model_validate_json(REFERENCE.model_dump_json()) == REFERENCE


def test_inside_an_identity_a_reference_is_its_fingerprint():
    assert REFERENCE.model_dump(context={"identity": True}) == "abc"


def test_what_was_loaded_knows_its_reference(project):
    checkpoint = Checkpoint(REFERENCE)

    assert reference_of(checkpoint) is reference_of(REFERENCE) is REFERENCE
    assert (checkpoint.fingerprint, checkpoint.base_model) == ("abc", "tiny")


def test_the_environment_names_the_project(project):
    assert project_root() == project


def test_the_nearest_kedro_project_above(folder):
    (folder / "pyproject.toml").write_text("[tool.kedro]\n")

    assert project_root() == folder


def test_a_project_that_is_not_kedros_is_passed_by(folder):
    (folder / "pyproject.toml").write_text("[tool.kedro]\n")
    (folder / "notebooks" / "pyproject.toml").write_text("[project]\n")

    assert project_root() == folder


def test_without_a_project_the_working_directory(folder):
    assert project_root() == folder / "notebooks" / "deep"
