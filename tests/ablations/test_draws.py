"""Draws side by side."""

import os
from types import SimpleNamespace

import pytest

from ser_kedro.ablations import draws
from ser_kedro.errors import LaunchError


def die(settings, cells):
    """What a machine without memory left does to a worker."""
    os.kill(os.getpid(), 9)


def test_a_killed_worker_is_one_line(monkeypatch):
    monkeypatch.setattr(draws, "_run_draw", die)
    settings = SimpleNamespace(evidence=SimpleNamespace(processes=2))
    cells = [draws.Cell("seed", seed, 0.15) for seed in (0, 1)]

    with pytest.raises(LaunchError, match="one of 2 processes was killed"):
        draws.run_cells(settings, cells)
