"""Several seeds at once."""

import os
from types import SimpleNamespace

import pytest

from ser_kedro.ablations import runs
from ser_kedro.errors import LaunchError


def die(settings, phase, configs):
    """What a machine without memory left does to a worker."""
    os.kill(os.getpid(), 9)


def test_a_killed_worker_is_one_line(monkeypatch):
    monkeypatch.setattr(runs, "_run_seed", die)
    settings = SimpleNamespace(ablations=SimpleNamespace(processes=2))
    configs = [runs.RunConfig("seed", seed, 0.15) for seed in (0, 1)]

    with pytest.raises(LaunchError, match="one of 2 processes was killed"):
        runs.run_all(settings, configs, "development")
