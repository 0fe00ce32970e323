"""A small process between us and a launcher, which outlives us to tidy up.

``python -m ser_kedro.launch.guard PARENT COMMAND...`` runs the command and ends with
its exit code. When the parent is gone, however it went, or when TERM arrives, the
guard ends every process of the launch. A rank cannot watch over itself: it may hang in
native code, or may not have begun to run ours.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

from ser_kedro.launch.process_tree import end_tree
from ser_kedro.launch.rank import LAUNCH_VARIABLE

_PAUSE = 0.1


def guard(parent: int, command: list[str]) -> int:
    """Run ``command`` to its end, or to that of ``parent``; return an exit code."""
    asked: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: asked.append(received))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while child.poll() is None and not asked and os.getppid() == parent:
        time.sleep(_PAUSE)
    code = child.poll()
    # Also after a good end: a process that outlives its launcher is an orphan.
    end_tree(os.environ[LAUNCH_VARIABLE])
    if code is None:
        return 128 + signal.SIGTERM
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(guard(int(sys.argv[1]), sys.argv[2:]))
