"""Launches with real processes: how they end well, how badly, and what they leave."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from ser_kedro.errors import LaunchError, ModelError, ParameterError, StoreError
from ser_kedro.launch import rank
from ser_kedro.launch.executor import run
from ser_kedro.launch.process_tree import end_tree, members
from ser_kedro.launch.rank import LAUNCH_VARIABLE
from ser_kedro.store import job_store as store

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def marked():
    """Every living process of any launch of this test's project."""
    here = os.environ["SER_KEDRO_PROJECT"]
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except psutil.Error:
            continue
        if LAUNCH_VARIABLE in environment:
            if environment.get("SER_KEDRO_PROJECT") == here:
                found.append(process)
    return found


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return condition()


def logs_of(job):
    folder = store.folder(job)
    return sorted(folder.with_name(folder.name + ".logs").glob("*"))


class TestGoodEnd:
    @pytest.fixture(autouse=True)
    def files(self, project):
        shutil.copytree(ROOT / "conf" / "launch", project / "conf" / "launch")

    @pytest.mark.parametrize(
        ("kind", "fields"),
        [
            ("torchrun", {}),
            ("accelerate", {"deepspeed": "conf/launch/zero3.json"}),
            ("deepspeed", {"environment": {"DS_ACCELERATOR": "cpu"}}),
        ],
    )
    def test_two_ranks_add_up(self, project, toys, two, monkeypatch, kind, fields):
        # As inside another launcher, which these ranks are none of.
        monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "5")
        monkeypatch.setenv("RANK", "5")
        monkeypatch.setenv("WORLD_SIZE", "7")
        job = toys.AllReduce(number=10)

        made = run(job, two(kind=kind, **fields))["x"]

        expected = fields.get("deepspeed")
        assert made.read() == {
            "sum": 21,
            "world": 2,
            "SER_KEDRO_DEEPSPEED": expected and str(project / expected),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OMPI_COMM_WORLD_RANK": None,
        }
        assert marked() == []

    def test_one_rank_and_what_it_says(self, toys, two, caplog):
        with caplog.at_level("INFO"):
            made = run(toys.Toy(), two(kind="accelerate", processes=1))["x"]

        assert made.rows == 1
        said = [line for line in caplog.messages if line.startswith("[rank 0] pid ")]
        assert len(said) == 1 and said[0].endswith(" is rank 0 of 1")
        pid = int(made.location.read_text())
        assert pid != os.getpid() and not psutil.pid_exists(pid)

    def test_what_was_launched_is_reused_inline(self, toys, two):
        first = run(toys.Toy(), two(processes=1))

        assert run(toys.Toy()) == first
        assert len(logs_of(toys.Toy())) == 1


class TestFailure:
    def test_a_rank_that_exits(self, toys, two):
        with pytest.raises(LaunchError, match=r"rank 1 failed .*\(exit code 1\)") as e:
            run(toys.Exit1(), two())

        assert (e.value.rank, e.value.exit_code) == (1, 1)
        assert "torch.distributed.run" in e.value.command
        assert marked() == []

    def test_a_rank_that_raises(self, toys, two):
        with pytest.raises(LaunchError, match="RuntimeError: the third law") as e:
            run(toys.Raise(), two())

        assert e.value.rank == 1
        assert e.value.lines[-1] == "RuntimeError: the third law is broken"
        assert marked() == []

    @pytest.mark.parametrize("kind", ["torchrun", "deepspeed"])
    def test_a_rank_that_is_killed(self, toys, two, kind):
        said = r"rank 1 failed .*\(exit code -9, SIGKILL\).*ran out of memory"
        environment = {"DS_ACCELERATOR": "cpu"}

        with pytest.raises(LaunchError, match=said):
            run(toys.Killed(), two(kind=kind, environment=environment))

        assert marked() == []

    def test_a_rank_that_hangs(self, toys, two):
        with pytest.raises(LaunchError, match="ended after 4 s, the timeout of"):
            run(toys.Hang(deaf=True), two(timeout=4))

        assert marked() == []

    def test_out_of_memory(self, toys, two):
        with pytest.raises(LaunchError, match="out of memory: lower micro_batch"):
            run(toys.OutOfMemory(), two(processes=1))

    def test_a_full_disk_of_a_rank(self, toys, two):
        with pytest.raises(StoreError, match=r"disk of .* is full"):
            run(toys.FullDisk(), two(processes=1))

    def test_a_mistake_of_the_user_is_the_same_as_inline(self, toys, two):
        with pytest.raises(
            ModelError, match=r"^model=x: has no head; give another"
        ) as e:
            run(toys.UserMistake(), two(processes=1))

        assert type(e.value) is ModelError

    def test_a_port_in_use(self, toys, two):
        with socket.socket() as held:
            held.bind(("", 0))
            held.listen()
            port = held.getsockname()[1]
            with pytest.raises(LaunchError, match="the port is taken"):
                run(toys.Toy(), two(port=port))

        assert marked() == []

    def test_no_result(self, toys, two):
        with pytest.raises(LaunchError, match="rank 0 left no result at"):
            run(toys.NoResult(), two(processes=1))

    def test_half_a_result(self, toys, two):
        with pytest.raises(LaunchError, match="is incomplete"):
            run(toys.HalfResult(), two(processes=1))

        assert store.find(toys.HalfResult()) is None

    def test_the_logs_outlive_the_next_success(self, project, toys, two):
        job = toys.OutOfMemory()
        with pytest.raises(LaunchError):
            run(job, two(processes=1))

        run(toys.Toy(), two(processes=1))  # the same fingerprint, as all toys

        failed, _ = logs_of(job)
        assert "CUDA out of memory" in (failed / "rank_0.log").read_text()

    @pytest.mark.parametrize(
        ("prefix", "said"),
        [("srun", "srun is missing"), ("nosuch-launcher", "install it, or choose")],
    )
    def test_a_missing_executable(self, toys, two, monkeypatch, prefix, said):
        monkeypatch.setenv("PATH", "/usr/bin:/bin")

        with pytest.raises(LaunchError, match=f"starts with {prefix}, .*{said}"):
            run(toys.Toy(), two(prefix=[prefix]))

    def test_a_missing_hostfile(self, toys, two):
        with pytest.raises(ParameterError, match="there is no hostfile .*slots=2"):
            run(toys.Toy(), two(kind="deepspeed", nodes=2, hostfile="nosuch"))

    def test_other_code_on_the_other_machine(self, toys, two, tmp_path):
        from ser_kedro.launch.worker import describe, load_job
        from ser_kedro.store.json_io import write_json

        file = tmp_path / "job.json"
        write_json(file, {**describe(toys.Toy()), "fingerprint": "0"})

        with pytest.raises(LaunchError, match="the same code and the same libraries"):
            load_job(file)


PARENT = """
    import signal, sys
    # Shells let their background jobs, which tests may be, begin with it ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, sys.argv[1])
    import toy_jobs
    from ser_kedro.launch.params import LauncherParams
    from ser_kedro.launch.executor import run
    two = LauncherParams(name="two", kind="torchrun", processes=2, devices=())
    run(toy_jobs.Hang(deaf=sys.argv[2] == "deaf"), two)
"""


@pytest.fixture
def parent(toys):
    """Start a process like Kedro's whose ranks hang, and wait until they do."""
    started = []

    def start(hearing):
        job = toys.Hang(deaf=hearing == "deaf")
        code = textwrap.dedent(PARENT)
        words = [sys.executable, "-c", code, str(Path(toys.__file__).parent), hearing]
        process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        started.append(process)
        folder = store.folder(job)
        staging = folder.with_name(folder.name + store.PARTIAL)
        assert wait_for(lambda: len(list(staging.glob("hangs_*"))) == 2, 60)
        assert len(marked()) == 4  # the guard, torchrun, two ranks
        return process, job

    yield start
    for process in started:
        process.kill()
        process.communicate()
    for process in marked():
        with contextlib.suppress(psutil.Error):  # it has just ended
            end_tree(process.environ()[LAUNCH_VARIABLE], grace=0)


class TestParent:
    @pytest.mark.parametrize(
        ("number", "hearing"),
        [
            (signal.SIGTERM, "deaf"),
            (signal.SIGINT, "hearing"),
            (signal.SIGKILL, "hearing"),
        ],
    )
    def test_its_end_is_the_end_of_all(self, parent, number, hearing):
        process, _ = parent(hearing)

        process.send_signal(number)

        assert wait_for(lambda: not marked(), 10)
        _, said = process.communicate(timeout=10)
        assert process.returncode == -number
        assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)

    def test_the_next_run_waits_for_ranks_that_are_still_there(self, parent):
        process, job = parent("deaf")
        process.kill()
        process.wait()
        assert marked()  # deaf ones have some seconds left

        with store.workspace(job):
            assert [p for p in marked() if "worker" in " ".join(p.cmdline())] == []

    def test_a_killed_guard(self, toys, parent):
        process, _ = parent("hearing")
        (guard,) = [p for p in marked() if "ser_kedro.launch.guard" in p.cmdline()]

        guard.kill()

        assert wait_for(lambda: not marked(), 10)
        _, said = process.communicate(timeout=15)
        assert "the launcher failed" in said and "SIGKILL" in said


def test_ending_a_launch_leaves_others_alone(project, monkeypatch):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    processes = []
    for marker in ("test-one", "test-two"):
        environment = {**os.environ, LAUNCH_VARIABLE: marker}
        # In a session of its own, as torchrun's ranks are.
        processes.append(
            subprocess.Popen(sleep, env=environment, start_new_session=True)
        )
    one, two = processes
    try:
        end_tree("test-one")

        assert one.wait(5) == -signal.SIGTERM
        assert [p.pid for p in members("test-two")] == [two.pid]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_inline_there_is_one_rank(monkeypatch):
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.delenv(LAUNCH_VARIABLE, raising=False)

    rank.barrier()

    assert (rank.rank(), rank.world_size(), rank.is_main()) == (0, 1, True)


def test_ranks_are_told_before_they_have_met(monkeypatch):
    monkeypatch.setenv(LAUNCH_VARIABLE, "x")
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")

    assert (rank.rank(), rank.world_size(), rank.is_main()) == (3, 8, False)
