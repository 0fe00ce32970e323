"""Kills at random moments: the end is that of a run which nobody disturbed.

A few of a short run; ``make chaos`` does many, of the whole road, and more than kills.
"""

import random

import pytest

from benchmarks import chaos
from benchmarks.reliability import new_project

pytestmark = pytest.mark.end_to_end

SHORT = ("run", "--env", "test", "--pipelines", "data_split,sft")


def test_a_run_that_is_killed_ends_like_any_other(tmp_path, capsys):
    assert chaos.kills(tmp_path, 3, random.Random(0), SHORT)
    assert "3 kills, " in capsys.readouterr().out


def test_a_difference_is_found(tmp_path, capsys):
    """What compares runs must notice a file that is another, and one that is gone."""
    expected, _ = chaos.undisturbed(new_project(tmp_path / "alone"), SHORT)
    assert expected.row(expected)[1]
    name = next(iter(expected.files))
    for files in ({**expected.files, name: "0" * 64}, {name: expected.files[name]}):
        other = chaos.Ended(expected.table, files, [], 0, expected.versions)
        assert not other.row(expected)[1]
    for left, verified, versions in (
        (["sft/x.partial"], 0, 1),
        ([], 2, 1),
        ([], 0, -1),
    ):
        other = chaos.Ended(expected.table, expected.files, left, verified, versions)
        assert not other.row(expected)[1]
