"""End all processes of a launch, wherever in the tree they are."""

from __future__ import annotations

import os
import time

import psutil

from ser_kedro.launch.rank import LAUNCH_VARIABLE

GRACE = 3.0
_PAUSE = 0.05


def members(marker: str) -> list[psutil.Process]:
    """Return the living processes of a launch, save this one.

    They are known by a variable of their environment, since launchers put ranks into
    sessions of their own, where no process group reaches them, and a rank whose
    launcher died has no parent to be found by.
    """
    found = []
    for process in psutil.process_iter():
        try:
            marked = process.environ().get(LAUNCH_VARIABLE) == marker
            if marked and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:  # ended meanwhile, or somebody else's
            continue
    return found


def end_tree(marker: str, grace: float = GRACE) -> None:
    """Send TERM to all processes of a launch, and KILL to what is left after it.

    Args:
        marker: Identity of the launch.
        grace: Seconds between the two.
    """
    left = members(marker)
    _send(left, kill=False)
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(_PAUSE)
        left = members(marker)
    deadline = time.monotonic() + GRACE
    while left and time.monotonic() < deadline:
        _send(left, kill=True)  # again and again: some may have had children meanwhile
        time.sleep(_PAUSE)
        left = members(marker)


def _send(processes: list[psutil.Process], *, kill: bool) -> None:
    for process in processes:
        try:
            process.kill() if kill else process.terminate()
        except psutil.Error:
            continue
