"""The sample of HH-RLHF that `make demo-real` reads."""

import gzip
import runpy
import shutil
from pathlib import Path

import pytest

from ser_kedro.configuration import ProjectConfigLoader
from ser_kedro.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "hh_rlhf_sample"


def lines(file):
    return gzip.decompress(file.read_bytes()).decode().splitlines(keepends=True)


@pytest.fixture(scope="module")
def rows():
    return {name: lines(SAMPLE / f"{name}.jsonl.gz") for name in ("test", "train")}


def test_is_what_its_program_draws(rows, tmp_path):
    program = shutil.copy(SAMPLE / "draw.py", tmp_path)
    source = tmp_path / "all.jsonl.gz"
    # In another order, except where dialogues begin alike.
    source.write_bytes(gzip.compress("".join(rows["train"] + rows["test"]).encode()))
    runpy.run_path(program)["main"](source)
    for name in rows:
        assert lines(tmp_path / f"{name}.jsonl.gz") == rows[name]


def test_has_as_many_rows_as_its_page_says(rows):
    page = (SAMPLE / "README.md").read_text("utf-8")
    for name, found in rows.items():
        assert f"{len(found)} in `{name}.jsonl.gz`" in page


def test_no_dialogue_begins_alike_in_both_files(rows):
    opening = runpy.run_path(str(SAMPLE / "draw.py"))["opening"]
    test, train = ({opening(line) for line in found} for found in rows.values())
    assert not test & train


def test_is_what_the_environment_reads():
    loader = ProjectConfigLoader(
        str(ROOT / "conf"), env="demo_real", **CONFIG_LOADER_ARGS
    )
    read = [loader["parameters"][name] for name in ("path", "test_path")]
    assert [ROOT / place for place in read] == [
        SAMPLE / f"{name}.jsonl.gz" for name in ("train", "test")
    ]
