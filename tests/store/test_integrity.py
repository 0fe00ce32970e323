"""Files of finished jobs that are no longer what was written."""

import json
import os
from pathlib import Path
from typing import ClassVar

import pyarrow as pa
import pytest
from click.testing import CliRunner

from ser_kedro.cli.main import cli
from ser_kedro.errors import DamageError, StoreError
from ser_kedro.launch.executor import NotFinished, run
from ser_kedro.launch.params import LOOKUP
from ser_kedro.store import fingerprints, integrity
from ser_kedro.store import job_store as store
from ser_kedro.store.job import Job
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import write_table

SCHEMA = pa.schema([("pair_id", pa.string()), ("p", pa.float64())])
# As they lie in the folder of a reward model, a scoring and a split.
FILES = (
    "model/model.safetensors",
    "model/tokenizer.json",
    "model/calibration.json",
    "table.arrow",
    "result.json",
)
LARGE = 3 * 2**19


class Make(Job):
    """Makes a file of each kind, the weights too large to be read each time."""

    stage: ClassVar[str] = "make"

    log: str

    def work(self, workspace):
        with open(self.log, "a") as log:
            log.write("made\n")
        folder = workspace / "model"
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"weight" * (LARGE // 6))
        (folder / "tokenizer.json").write_text("token " * 99)
        write_json(folder / "calibration.json", {"offset": 0.5, "temperature": 1.25})
        rows = [{"pair_id": f"pair {n}", "p": n / 7} for n in range(99)]
        batch = pa.RecordBatch.from_pylist(rows, SCHEMA)
        return {
            "table": write_table(workspace, "table", [batch], SCHEMA),
            "model": ModelRef(kind="reward_model", path="model", fingerprint="m"),
        }


class Read(Make):
    """Stands on what ``Make`` made."""

    stage: ClassVar[str] = "read"

    table: TableRef
    model: ModelRef


def flip(path):
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        old = file.read(64)
        file.seek(-len(old), os.SEEK_CUR)
        file.write(bytes(255 - byte for byte in old))


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    os.truncate(path, 0)


def delete(path):
    path.unlink()


DAMAGES = (flip, cut, empty, delete)


@pytest.fixture
def log(tmp_path):
    return str(tmp_path / "log")


@pytest.fixture
def job(project, log):
    """A job that has finished."""
    made = Make(log=log)
    run(made)
    return made


@pytest.fixture
def next_process(monkeypatch):
    """Forget what this process has read."""
    return lambda: monkeypatch.setattr(fingerprints, "_read", {})


def times(log):
    return Path(log).read_text().count("made")


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def unsealed(folder):
    """Make the record what it was before digests were recorded."""
    record = read_json(folder / store.RESULT)
    del record["files"], record["digest"]
    write_json(folder / store.RESULT, record)


class TestReuse:
    @pytest.mark.parametrize("damage", DAMAGES)
    @pytest.mark.parametrize("name", FILES)
    def test_damage_is_set_aside_and_made_again(
        self, job, log, next_process, caplog, name, damage
    ):
        place = store.folder(job)
        before = contents(place)
        below = Read(log=log, **run(job))
        run(below)
        damage(place / name)
        left = contents(place)
        next_process()

        with caplog.at_level("WARNING"):
            again = run(job)

        aside = place.with_name(f"{place.name}.damaged-1")
        (line,) = (r.getMessage() for r in caplog.records if r.levelname == "WARNING")
        assert line.startswith(f"make {place.name[:12]}: {name} ")
        assert line.endswith(f"set aside as {aside.name} and made again")
        assert contents(place) == before and contents(aside) == left
        assert times(log) == 3
        # What stands on it was made of the same bytes.
        assert Read(log=log, **again) == below
        run(below)
        assert times(log) == 3

    def test_says_what_is_wrong(self, job):
        file = store.folder(job) / "table.arrow"
        size = file.stat().st_size
        for damage, said in (
            (flip, "has other bytes than were written"),
            (cut, f"has {size // 2:,} bytes, {size:,} were written"),
            (empty, f"has 0 bytes, {size:,} were written"),
            (delete, "is missing"),
        ):
            damage(file)
            with pytest.raises(DamageError, match=f"^make .*: table.arrow {said}$"):
                integrity.read_record(store.folder(job))

    def test_damaged_twice_keeps_both(self, job, log, next_process):
        for _ in range(2):
            delete(store.folder(job) / "table.arrow")
            next_process()
            run(job)
        stage = store.folder(job).parent
        assert len([*stage.glob("*.damaged-[12]")]) == 2
        assert times(log) == 3

    def test_a_file_in_the_place_of_the_folder(self, project, log):
        job = Make(log=log)
        store.folder(job).parent.mkdir(parents=True)
        store.folder(job).write_text("rubbish")
        run(job)
        assert times(log) == 1

    def test_a_record_that_was_edited(self, job):
        """It says itself what it was, so that no number can be changed in it."""
        path = store.folder(job) / store.RESULT
        path.write_text(path.read_text().replace('"rows": 99', '"rows": 98'))
        with pytest.raises(DamageError, match=r"result\.json is not what was written"):
            integrity.read_record(path.parent)
        assert store.find(job) is None

    def test_looking_up_changes_nothing(self, job, log):
        cut(store.folder(job) / "table.arrow")
        left = contents(store.folder(job))
        with pytest.raises(NotFinished):
            run(job, LOOKUP)
        assert contents(store.folder(job)) == left and times(log) == 1

    def test_what_others_put_there_is_no_damage(self, job, log):
        (store.folder(job) / "notes.txt").write_text("good")
        run(job)
        assert times(log) == 1

    @pytest.mark.parametrize("damage", DAMAGES)
    def test_an_older_record_is_reused_as_it_was(self, job, log, caplog, damage):
        unsealed(store.folder(job))
        damage(store.folder(job) / "model/tokenizer.json")
        run(job)
        assert times(log) == 1 and "set aside" not in caplog.text

    @pytest.mark.parametrize("path", ["/etc/passwd", "data/store/other/x/table.arrow"])
    def test_an_older_record_that_points_elsewhere_is_damaged(self, job, log, path):
        folder = store.folder(job)
        unsealed(folder)
        record = read_json(folder / store.RESULT)
        record["outputs"]["table"]["path"] = path
        write_json(folder / store.RESULT, record)
        assert store.find(job) is None
        assert run(job)["table"].path == f"data/store/make/{folder.name}/table.arrow"

    def test_a_commit_that_was_cut_off(self, project, log):
        """A record of the first try must not be taken for a file of the job."""
        job = Make(log=log)
        with store.workspace(job) as workspace:
            (workspace / "result.json").write_text("{")
            (workspace / "result.json.partial").write_text("{")
        run(job)
        assert run(job) and times(log) == 1


class TestCost:
    @pytest.fixture
    def read(self, monkeypatch):
        """The names of the files that are read from here on."""
        names, read = [], fingerprints._hash_bytes

        def count(path):
            names.append(path.name)
            return read(path)

        monkeypatch.setattr(fingerprints, "_hash_bytes", count)
        return names

    def test_what_this_process_wrote_is_not_read_again(self, project, log, read):
        job = Make(log=log)
        for _ in range(3):
            run(job)
        assert read.count("model.safetensors") == 1  # when it was recorded
        assert read.count("calibration.json") == 3

    def test_weights_are_read_once_a_process(self, job, read, next_process):
        next_process()
        for _ in range(3):
            store.find(job)
        assert read.count("model.safetensors") == 1

    def test_weights_that_are_linked_are_read_once(self, job, read, next_process):
        weights = store.folder(job) / "model/model.safetensors"
        os.link(weights, weights.with_name("linked"))
        next_process()
        for path in (weights, weights.with_name("linked")):
            fingerprints.hash_file(path)
        assert len(read) == 1

    def test_weights_that_changed_are_read_again(self, job, read):
        weights = store.folder(job) / "model/model.safetensors"
        flip(weights)
        later = weights.stat().st_mtime_ns + 1_000_000
        os.utime(weights, ns=(later, later))
        assert store.find(job) is None
        assert read.count("model.safetensors") == 1


class TestReferences:
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_into_a_damaged_job(self, job, damage):
        made = run(job)
        damage(store.folder(job) / "model/tokenizer.json")
        inside = made["model"].model_copy(update={"path": "data/store/gone/x/model"})
        for value in (
            made["table"],
            {"all": [made["model"]]},
            inside.model_copy(update={"voters": (made["model"],)}),
        ):
            with pytest.raises(DamageError, match=r"^make .*tokenizer\.json "):
                integrity.check(value)

    def test_into_a_job_that_is_gone(self, project):
        table = TableRef(path="data/store/gone/x/t.arrow", fingerprint="t", rows=1)
        integrity.check(table)

    @pytest.mark.parametrize(
        "path",
        [
            *("/etc/passwd", "../x/y/z", "data/store/../../x/y", "conf/base/a/b"),
            *("data/store", "data/store/make", "data/store/make/x", "data/storey/a/b"),
        ],
    )
    def test_to_what_is_no_place_in_the_store(self, project, path):
        table = TableRef(path=path, fingerprint="t", rows=1)
        with pytest.raises(StoreError, match=r"no place in the store \(data/store\)"):
            integrity.check(table)

    def test_a_store_on_another_disk(self, project, log, tmp_path_factory):
        (project / "data").mkdir()
        (project / "data/store").symlink_to(tmp_path_factory.mktemp("disk"))
        integrity.check(run(Make(log=log)))


class TestVerify:
    def test_a_store_that_is_whole(self, job):
        done = CliRunner().invoke(cli, ["verify"])
        said = "1 finished jobs: every file is what was written\n"
        assert (done.exit_code, done.output) == (0, said)

    def test_nothing_yet(self, project):
        assert CliRunner().invoke(cli, ["verify"]).exit_code == 0

    def test_says_what_is_damaged(self, job, log, project, next_process):
        for number in range(3):
            run(Read(log=f"{log}{number}", **run(job)))
        first, second, _ = sorted((project / "data/store/read").iterdir())
        flip(first / "model/model.safetensors")
        delete(second / store.RESULT)
        # What was begun or set aside is no finished job.
        first.with_name("abc.partial").mkdir()
        first.with_name("abc.damaged-1").mkdir()
        before = contents(project)
        next_process()

        done = CliRunner().invoke(cli, ["verify"])

        one, two, last = done.output.splitlines()
        assert one.startswith(f"read {first.name[:12]}: model/model.safetensors has")
        assert two == f"read {second.name[:12]}: result.json is missing"
        assert last.startswith("Error: 2 of 4 finished jobs are damaged; run")
        assert done.exit_code == 2 and contents(project) == before

    def test_older_jobs(self, job):
        unsealed(store.folder(job))
        done = CliRunner().invoke(cli, ["verify"])
        assert done.exit_code == 0
        assert "1 older jobs: no digests were recorded" in done.output


def test_the_record_holds_every_file_and_itself(job):
    record = json.loads((store.folder(job) / store.RESULT).read_text())
    assert {*record["files"], "result.json"} == set(FILES)
    assert record["files"]["model/model.safetensors"]["size"] == LARGE
    assert all(len(file["sha256"]) == 64 for file in record["files"].values())
    assert len(record["digest"]) == 64
