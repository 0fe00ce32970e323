import signal

import pytest

from ser_kedro.errors import LaunchError, ModelError
from ser_kedro.launch.failure import advice, failed, read_result, reconstruct
from ser_kedro.launch.params import LauncherParams
from ser_kedro.store.json_io import write_json

TORCHRUN = """\
Failures:
[1]:
  time      : 2026-11-21_06:48:34
  host      : localhost
  rank      : 0 (local_rank: 0)
  exitcode  : {other} (pid: 6404)
Root Cause (first observed failure):
[0]:
  rank      : 1 (local_rank: 1)
  exitcode  : {first} (pid: 6405)
"""


def error(rank, message, time=0.0, kind="RuntimeError", user=False):
    return {
        "rank": rank,
        "type": kind,
        "message": message,
        "time": time,
        "user": user,
    }


@pytest.fixture
def logs(tmp_path):
    def write(launcher="", ranks=(), errors=()):
        (tmp_path / "launcher.log").write_text(launcher)
        for number, text in enumerate(ranks):
            (tmp_path / f"rank_{number}.log").write_text(text)
        for record in errors:
            write_json(tmp_path / f"error_{record['rank']}.json", record)
        return tmp_path

    return write


def fail(folder, code=1):
    params = LauncherParams(name="two", kind="torchrun")
    return failed("reward 0123", params, ["torchrun", "x"], folder, code)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to", "micro_batch_size"),
        ("DefaultCPUAllocator: can't allocate memory", "micro_batch_size"),
        ("MissingCUDAException: CUDA_HOME does not exist", "set CUDA_HOME"),
        ("port: 29500, errno: 98, EADDRINUSE", "port is taken"),
        ("host=worker-1 was not reachable via ssh.", "hostfile"),
        ("ssh: Could not resolve hostname worker-2: Name or service", "hostfile"),
        ("Watchdog caught collective operation timeout: WorkNCCL", "NCCL_DEBUG=INFO"),
        ("RuntimeError: Ninja is required to load C++ extensions", "install ninja"),
        ("[Errno 2] No such file or directory: 'numactl'", "install numactl"),
        ("RuntimeError: launcher 'pdsh' not installed.", "install pdsh"),
        ("bash: srun: command not found", "srun is missing"),
        ("python: No module named deepspeed", "pip install 'ser-kedro[deepspeed]'"),
        ("Unable to proceed, no GPU resources available", "fits this machine"),
    ],
)
def test_what_is_known_is_answered(text, said):
    assert said in advice(text)


@pytest.mark.parametrize("code", [-9, 137])
def test_a_kill_is_most_often_memory(code):
    assert "ran out of memory" in advice("", code)


@pytest.mark.parametrize("code", [1, -15, 0])
def test_what_is_not_known_is_not_guessed(code):
    assert advice("ValueError: 3", code) is None


@pytest.mark.parametrize(("first", "other"), [(-9, 1), (-9, -15), (-11, 1)])
def test_a_signal_comes_before_what_followed_from_it(logs, first, other):
    lost = error(0, "Connection closed by peer [127.0.0.1]:1")
    folder = logs(TORCHRUN.format(first=first, other=other), ["", "a"], [lost])

    ending = reconstruct(folder, 1)

    assert (ending.rank, ending.code) == (1, first)


def test_the_launchers_own_term_is_not_the_cause(logs):
    ending = reconstruct(logs(TORCHRUN.format(first=1, other=-15), ["", ""]), 1)

    assert (ending.rank, ending.code) == (1, 1)


def test_deepspeed_names_the_rank_in_its_command(logs):
    line = "['python', '--local_rank=1', 'job.json'] exits with return code = -9"

    ending = reconstruct(logs(line, ["", "said"]), 247)

    assert (ending.rank, ending.code, ending.text) == (1, -9, "said")


def test_the_first_error_counts(logs):
    errors = [error(0, "later", time=2), error(1, "sooner", time=1)]

    assert reconstruct(logs("", ["", ""], errors), 1).error == errors[1]


def test_losing_another_rank_is_not_the_cause(logs):
    errors = [error(0, "Connection reset by peer", 1), error(1, "boom", 2)]

    assert reconstruct(logs("", ["", ""], errors), 1).rank == 1


def test_a_rank_that_vanished_is_the_cause(logs):
    lost = [error(0, "Connection closed by peer")]

    ending = reconstruct(logs("", ["", ""], lost), 1)

    assert (ending.rank, ending.code) == (1, -signal.SIGKILL)


def test_the_one_error_says_it_all(logs):
    folder = logs("", ["", "one\ntwo"], [error(1, "CUDA out of memory")])

    raised = fail(folder)

    assert isinstance(raised, LaunchError)
    assert (raised.rank, raised.exit_code) == (1, 1)
    assert (raised.command, raised.lines) == (("torchrun", "x"), ("one", "two"))
    line = str(raised)
    assert line.startswith("reward 0123: rank 1 failed under launcher=two (exit code 1")
    assert "RuntimeError: CUDA out of memory; out of memory: lower" in line
    assert line.endswith("rank_1.log") and "\n" not in line


def test_a_mistake_of_the_user_is_raised_as_itself(logs):
    mistake = error(0, "model=x: no head; give another", kind="ModelError", user=True)

    raised = fail(logs("", [""], [mistake]))

    assert type(raised) is ModelError
    assert str(raised) == "model=x: no head; give another"


def test_a_launcher_that_never_began(logs):
    raised = fail(logs("Traceback\nRuntimeError: launcher 'pdsh' not installed."))

    assert "the launcher failed" in str(raised) and "install pdsh" in str(raised)


@pytest.mark.parametrize("text", ['{"outputs": {"x"', "", "[]", "{}"])
def test_a_result_that_is_not_whole(tmp_path, text):
    (tmp_path / "result.json").write_text(text)

    with pytest.raises(LaunchError, match="is incomplete; run the same command again"):
        read_result("reward 0123", tmp_path / "result.json")
