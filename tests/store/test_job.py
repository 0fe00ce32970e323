import importlib
import os
import subprocess
import sys
from typing import ClassVar

import pytest

from ser_kedro.models.params import ModelParams, ScratchParams
from ser_kedro.store.fingerprints import hash_file, hash_folder
from ser_kedro.store.job import Job, code_hash
from ser_kedro.store.references import TableRef

INPUT = TableRef(path="a.arrow", fingerprint="1" * 32, rows=3)


class Example(Job):
    stage: ClassVar[str] = "example"

    pairs: TableRef = INPUT
    size: int = 1


class OnLibrary(Example):
    libraries: ClassVar[tuple[str, ...]] = ("numpy",)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of that source, and hash it anew each time."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(source, name="some_job"):
        (tmp_path / f"{name}.py").write_text(source)
        importlib.invalidate_caches()
        code_hash.cache_clear()
        return code_hash("some_job")

    yield write
    code_hash.cache_clear()


def test_equal_jobs_have_one_fingerprint():
    assert Example().fingerprint == Example(size=1).fingerprint
    assert len(Example().fingerprint) == 32


def test_a_parameter_changes_the_fingerprint():
    assert Example(size=2).fingerprint != Example().fingerprint


def test_the_content_of_an_input_changes_the_fingerprint():
    other = INPUT.model_copy(update={"fingerprint": "2" * 32})

    assert Example(pairs=other).fingerprint != Example().fingerprint


@pytest.mark.parametrize(
    "change",
    [{"path": "elsewhere"}, {"metrics": {"accuracy": 1}}, {"base_model": "x"}],
)
def test_where_an_input_lies_and_its_metrics_do_not(change):
    other = INPUT.model_copy(update=change)

    assert Example(pairs=other).fingerprint == Example().fingerprint


def test_libraries_change_the_fingerprint():
    assert OnLibrary().fingerprint != Example().fingerprint


def test_the_stage_changes_the_fingerprint(monkeypatch):
    before = Example().fingerprint
    monkeypatch.setattr(Example, "stage", "another")

    assert Example().fingerprint != before


def test_unknown_fields_are_errors():
    with pytest.raises(ValueError, match="Extra inputs are not permitted"):
        Example(launcher="inline")


def test_a_job_without_work_says_so(tmp_path):
    with pytest.raises(TypeError, match="Example does not say how"):
        Example().work(tmp_path)


def test_code_changes_its_hash(module):
    assert module("def f():\n    return 1\n") != module("def f():\n    return 2\n")


def test_comments_docstrings_and_layout_do_not(module):
    plain = module("class A:\n    def f(self):\n        return [1, 2]\n")

    assert plain == module(
        '"""A module."""\n\n\nclass A:\n    """A class."""\n\n    # why\n'
        '    def f(self):\n        """A method."""\n'
        "        return [\n            1,\n            2,\n        ]\n"
    )


def test_a_string_that_is_no_docstring_counts(module):
    assert module("x = 'a'\n") != module("x = 'b'\n")


@pytest.mark.parametrize(
    "line",
    [
        "import ser_kedro.errors",
        "from ser_kedro import errors",
        "from ser_kedro.errors import DataError",
        "def f():\n    from ser_kedro.errors import DataError",
    ],
)
def test_our_own_imports_are_followed(module, line, monkeypatch):
    from ser_kedro.store import job

    before = module(line)
    real = job._source

    def changed(name):
        return real(name) + ("\nx = 1" if name == "ser_kedro.errors" else "")

    monkeypatch.setattr(job, "_source", changed)

    assert module(line) != before


def test_every_real_job_can_be_hashed():
    names = [
        *("preferences.split_job", "training.sft_job"),
        *("models.score_job", "self_evolution.selection"),
    ]
    hashes = {code_hash(f"ser_kedro.{name}") for name in names}

    assert len(hashes) == 4


def test_hashing_a_job_does_not_import_torch():
    code = (
        "import sys; from ser_kedro.store.job import code_hash;"
        "import ser_kedro.self_evolution.loop, ser_kedro.training.sft_job;"
        "code_hash('ser_kedro.training.reward_job'); assert 'torch' not in sys.modules"
    )

    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_model_folder_counts_by_its_content(tmp_path):
    class Train(Example):
        model: ModelParams

    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
        (folder / "config.json").write_text("{}")

    same = Train(model=ModelParams(name=str(two))).fingerprint
    assert Train(model=ModelParams(name=str(one))).fingerprint == same

    (two / "config.json").write_text("[]")
    assert Train(model=ModelParams(name=str(two))).fingerprint != same


def test_a_scratch_model_counts_by_its_size():
    class Train(Example):
        model: ModelParams

    def fingerprint(layers):
        scratch = ScratchParams(
            vocab_size=64, hidden_size=8, intermediate_size=8, layers=layers, heads=1
        )
        return Train(model=ModelParams(name="x", scratch=scratch)).fingerprint

    assert fingerprint(1) == fingerprint(1) != fingerprint(2)


def test_a_folder_is_its_names_and_contents(tmp_path):
    (tmp_path / "a").write_text("x")
    before = hash_folder(tmp_path)
    (tmp_path / "a").rename(tmp_path / "b")

    assert hash_folder(tmp_path) != before


def test_a_large_file_that_changes_is_hashed_again(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 2**20)
    before = hash_file(path)
    path.write_bytes(b"b" * 2**20)
    os.utime(path, (1, 1))

    assert hash_file(path) != before
