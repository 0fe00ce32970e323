"""Command lines in processes of their own that need not import what they use.

A command of a few lines spends most of its time on imports of torch and kedro. Here a
server has them, and every command is a fork of it: a process with its own working
folder, environment and output, which runs the real program of the copy it stands in.
All forks share a seed of hashes: what compares two runs gives one of them a variable of
its own (``ANEW``), and so a process that is started anew.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

ANEW = {"PYTHONHASHSEED": "1"}
PRELOADED = ["tests.end_to_end.preloaded"]


def run(module, arguments, cwd, env, timeout):
    """Run ``python -m module`` as ``subprocess.run`` would, with its output as text.

    Raises:
        TimeoutExpired: If it takes longer than so many seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "stdout", Path(folder) / "stderr"
        out.touch(), err.touch()
        asked = (module, [*map(str, arguments)], str(cwd), env, out, err)
        process = context.Process(target=_command, args=asked)
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise TimeoutExpired([module, *arguments], timeout)
        said = out.read_text("utf-8"), err.read_text("utf-8")
    return CompletedProcess([module, *arguments], process.exitcode, *said)


def _command(module, arguments, cwd, env, *outputs):
    for number, file in enumerate(outputs, start=1):
        handle = os.open(file, os.O_WRONLY)
        os.dup2(handle, number)
        os.close(handle)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    root = str(Path(__file__).parents[2])
    places = [place for place in sys.path if not place.startswith(root + "/tests")]
    sys.path[:] = ["", *env["PYTHONPATH"].split(os.pathsep), *places]
    sys.argv[:] = [module, *arguments]
    atexit._clear()  # what the server would do at its end
    code = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    finally:
        # A forked process leaves without what the command wants to do at its end.
        atexit._run_exitfuncs()
    sys.exit(code)
