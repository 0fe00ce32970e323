"""Launchers without a GPU, and jobs of which ranks know the module."""

import sys
from pathlib import Path

import pytest

from ser_kedro.launch.params import LauncherParams

TOYS = Path(__file__).parent / "toys"


@pytest.fixture
def toys(project, monkeypatch):
    """The module of toy jobs, importable by its own name as in a user's package."""
    monkeypatch.syspath_prepend(str(TOYS))
    monkeypatch.delitem(sys.modules, "toy_jobs", raising=False)
    import toy_jobs

    return toy_jobs


@pytest.fixture
def two():
    """Two ranks under torchrun, with fields changed as asked."""
    base = {"name": "two", "kind": "torchrun", "processes": 2, "threads": 1}
    return lambda **changes: LauncherParams(**{**base, "devices": [], **changes})
