import errno
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import ClassVar

import pytest

from ser_kedro.errors import StoreError
from ser_kedro.launch.executor import NotFinished, run
from ser_kedro.launch.params import LOOKUP, LauncherParams
from ser_kedro.store import job_store as store
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import TableRef


class Count(Job):
    """Counts how often it works, in a file outside the store."""

    stage: ClassVar[str] = "count"

    log: str
    number: int = 0

    def work(self, workspace):
        with open(self.log, "a") as file:
            file.write("worked\n")
        (workspace / "x.txt").write_text(str(self.number))
        return {"x": TableRef(path="x.txt", fingerprint="d", rows=1)}


class FailOnce(Count):
    """Fails in the middle of its work, the first time."""

    def work(self, workspace):
        if not (workspace / "half").exists():
            (workspace / "half").write_text("begun")
            raise RuntimeError("the power is gone")
        return super().work(workspace)


class FillDisk(Count):
    """Writes to a device that is always full."""

    def work(self, workspace):
        with open("/dev/full", "w") as file:
            file.write("x")
        return {}


class FillDiskWithWeights(Count):
    def work(self, workspace):
        from safetensors import SafetensorError

        # In the words of Rust's standard library, which writes the weights.
        raise SafetensorError("I/O error: No space left on device (os error 28)")


class FillDiskWithStates(Count):
    def work(self, workspace):
        import torch

        torch.save({"state": torch.zeros(1000)}, "/dev/full")


class Raise(Count):
    def work(self, workspace):
        raise OSError(errno.EACCES, "no permission")


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


def times(log):
    with open(log) as file:
        return len(file.readlines())


def left(project):
    return sorted(p.name for p in (project / "data" / "store").rglob("*"))


def test_the_result_of_a_job_is_a_reference(project, log):
    job = Count(log=log, number=7)

    reference = run(job)["x"]

    assert reference.path == f"data/store/count/{job.fingerprint}/x.txt"
    assert reference.location.read_text() == "7"
    assert (reference.fingerprint, reference.rows) == ("d", 1)


def test_run_twice_works_once(project, log):
    first = run(Count(log=log))
    second = run(Count(log=log))

    assert first == second
    assert times(log) == 1


def test_other_parameters_work_again(project, log):
    run(Count(log=log))
    run(Count(log=log, number=1))

    assert times(log) == 2


def test_a_finished_job_leaves_only_its_folder(project, log):
    job = Count(log=log)

    run(job)

    assert left(project) == sorted(["count", job.fingerprint, "result.json", "x.txt"])


def test_the_record_says_what_was_done(project, log):
    job = Count(log=log)

    run(job)

    record = read_json(store.folder(job) / store.RESULT)
    assert record["job"] == {"log": log, "number": 0}
    assert record["fingerprint"] == job.fingerprint


def test_the_launcher_is_no_part_of_the_result(project, log):
    run(Count(log=log))

    run(Count(log=log), LauncherParams(kind="torchrun", processes=2))

    assert times(log) == 1


def test_a_failure_leaves_the_workspace_and_nothing_finished(project, log):
    job = FailOnce(log=log)

    with pytest.raises(RuntimeError, match="the power is gone"):
        run(job)

    assert store.find(job) is None
    assert not store.folder(job).exists()
    assert set(left(project)) == {"count", f"{job.fingerprint}.partial", "half"}


def test_begun_work_is_taken_up(project, log, caplog):
    job = FailOnce(log=log)
    with pytest.raises(RuntimeError):
        run(job)

    with caplog.at_level("INFO"):
        reference = run(job)["x"]

    assert reference.location.with_name("half").read_text() == "begun"
    assert ": resumed" in caplog.text


def test_all_is_on_the_disk_before_the_folder_is_there(project, log, monkeypatch):
    """A pulled plug must not leave a finished folder with unwritten files in it."""
    events, fsync, rename = [], os.fsync, Path.rename

    def synced(descriptor):
        events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def renamed(path, target):
        events.append(("rename", str(path)))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    job = Count(log=log)

    run(job)

    stage = project / "data" / "store" / "count"
    partial = f"{stage / job.fingerprint}.partial"
    files = {partial, f"{partial}/x.txt", f"{partial}/result.json"}
    moved = events.index(("rename", partial))
    assert files <= {path for kind, path in events[:moved] if kind == "sync"}
    assert ("sync", str(stage)) in events[moved:]


def test_a_half_written_workspace_is_never_found(project, log):
    job = Count(log=log)
    with store.workspace(job) as workspace:
        write_json(workspace / store.RESULT, {"outputs": {}})

    assert store.find(job) is None


def test_a_folder_without_a_result_is_never_found(project, log):
    job = Count(log=log)
    store.folder(job).mkdir(parents=True)

    assert store.find(job) is None


def test_a_killed_process_leaves_no_lock(project, log):
    job = Count(log=log)
    with store.workspace(job):
        pass
    # What a process that is killed leaves: the file, but nobody who holds it.
    store.folder(job).with_name(job.fingerprint + store.LOCK).touch()

    run(job)

    assert times(log) == 1


def test_two_processes_at_once_work_once(project, log):
    (project / "slow_job.py").write_text(
        textwrap.dedent(
            """
            import sys, time
            from pathlib import Path
            from typing import ClassVar
            from ser_kedro.store.job import Job
            from ser_kedro.store.references import TableRef
            from ser_kedro.launch.executor import run

            class Slow(Job):
                stage: ClassVar[str] = "slow"
                log: str

                def work(self, workspace):
                    with open(self.log, "a") as file:
                        file.write("worked\\n")
                    time.sleep(0.4)
                    (workspace / "x").write_text("done")
                    return {"x": TableRef(path="x", fingerprint="d", rows=1)}

            """
        )
    )
    (project / "go").mkdir()
    code = (
        "import sys, time; from pathlib import Path; from slow_job import Slow, run;"
        "Path(f'go/{sys.argv[2]}').touch()\n"
        "while len(list(Path('go').iterdir())) < 3: time.sleep(0.01)\n"
        "print(run(Slow(log=sys.argv[1]))['x'].location.read_text())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, log, str(i)],
            cwd=project,
            stdout=subprocess.PIPE,
            text=True,
        )
        for i in range(3)
    ]

    said = [process.communicate(timeout=60)[0] for process in processes]

    assert said == ["done\n"] * 3
    assert times(log) == 1
    assert not [p for p in (project / "data/store/slow").iterdir() if p.suffix]


def test_the_workspace_is_held_by_one_at_a_time(project, log):
    job, inside, most = Count(log=log), [], []

    def enter():
        for _ in range(20):
            with store.workspace(job):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.0005)
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(most) == 120
    assert max(most) == 1


@pytest.mark.parametrize("kind", [FillDisk, FillDiskWithWeights, FillDiskWithStates])
def test_a_full_disk_says_what_to_do(project, log, kind):
    with pytest.raises(
        StoreError, match=r"^count .*disk of .*data/store is full; free"
    ):
        run(kind(log=log))


def test_what_lies_in_the_place_of_the_store_is_named(project, log):
    """A file where a folder belongs, and a folder where a lock belongs."""
    store_root = project / "data" / "store"
    (project / "data").mkdir()
    job = Count(log=log)
    for put, name in (
        (Path.touch, store_root),
        (Path.touch, store_root / "count"),
        (Path.mkdir, store_root / "count" / f"{job.fingerprint}.lock"),
    ):
        name.parent.mkdir(exist_ok=True)
        put(name)
        with pytest.raises(StoreError, match=r"^count .*cannot be used .* remove it"):
            run(job)
        name.rmdir() if name.is_dir() else name.unlink()

    assert run(job)["x"].rows == 1


def test_a_store_that_must_not_be_written_is_named(project, log, monkeypatch):
    place = project / "data" / "store" / "count"
    denied = PermissionError(errno.EACCES, "Permission denied", str(place))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: (_ for _ in ()).throw(denied))

    with pytest.raises(StoreError, match=r"count cannot be used \(Permission denied\)"):
        run(Count(log=log))


def test_other_errors_of_the_system_stay_what_they_are(project, log):
    with pytest.raises(OSError, match="no permission"):
        run(Raise(log=log))


def test_a_job_for_one_process_stays_in_this_one(project, log):
    run(Count(log=log), LauncherParams(kind="torchrun", prefix=("nosuch",)))

    assert times(log) == 1


def test_json_is_written_whole(tmp_path):
    path = tmp_path / "deep" / "x.json"
    write_json(path, {"σ": 1})

    with pytest.raises(TypeError):
        write_json(path, {"x": object()})

    assert read_json(path) == {"σ": 1}


class TestLookup:
    """A launcher that runs nothing."""

    def test_starts_nothing(self, project, log):
        with pytest.raises(NotFinished, match="^count$"):
            run(Count(log=log), LOOKUP)
        assert not (project / "data").exists() and not os.path.exists(log)

    def test_finds_what_is_done(self, project, log):
        job = Count(log=log)
        made = run(job)
        assert run(job, LOOKUP) == made
        assert times(log) == 1
