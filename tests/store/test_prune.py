"""Nothing that a kept version needs goes, and all else does."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_kedro.cli.prune import data_folders
from ser_kedro.store import prune
from ser_kedro.store.layout import RESULT

OLD = time.time() - 100 * 3600


def put_job(root, number, needs, *, age=OLD, kind="table"):
    """A job that was made of others; they are named as deep as references lie."""
    folder = root / "data" / "store" / "stage" / f"{number:032d}"
    folder.mkdir(parents=True)
    (folder / "weights").write_text("x" * 100)
    inputs = [{"kind": "model", "voters": [{"path": place(each)}]} for each in needs]
    outputs = {"x": {"kind": kind, "path": place(number)}}
    record = {"job": {"pairs": inputs}, "outputs": outputs}
    (folder / RESULT).write_text(json.dumps(record))
    os.utime(folder, (age, age))
    return folder


def place(number):
    return f"data/store/stage/{number:032d}/weights"


def put_version(root, environment, name, time, jobs):
    folder = root / "data" / environment / "06_models" / name / time / name
    folder.parent.mkdir(parents=True)
    folder.write_text(json.dumps({"best": [{"path": place(job)} for job in jobs]}))
    return folder.parent


def stamp(number):
    return f"2026-11-{number + 1:02d}T00.00.00.000Z"


def there(root):
    store = root / "data" / "store" / "stage"
    return {int(path.name) for path in store.iterdir()} if store.exists() else set()


@st.composite
def histories(draw):
    """Jobs, each made of earlier ones, and versions that name some."""
    count = draw(st.integers(1, 8))
    needs = [draw(st.sets(st.integers(0, n - 1))) if n else set() for n in range(count)]
    datasets = draw(
        st.lists(
            st.lists(st.sets(st.integers(0, count - 1)), min_size=1, max_size=4),
            max_size=3,
        )
    )
    return needs, datasets


@given(histories(), st.integers(1, 3), st.integers(0, 4))
def test_what_is_needed_stays_and_the_rest_goes(tmp_path_factory, history, keep, fail):
    """Killed at any moment, it is done again to the same end."""
    root = tmp_path_factory.mktemp("project")
    needs, datasets = history
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SER_KEDRO_PROJECT", str(root))
        for number, inputs in enumerate(needs):
            put_job(root, number, inputs)
        (root / "data" / "store").mkdir(parents=True, exist_ok=True)
        kept, needed = set(), set()
        for number, versions in enumerate(datasets):
            for when, jobs in enumerate(versions):
                folder = put_version(root, "own", f"d{number}.json", stamp(when), jobs)
                if when >= len(versions) - keep:
                    kept.add(folder)
                    needed |= jobs
        for number in reversed(range(len(needs))):
            needed |= needs[number] if number in needed else set()
        # What was measured of kept jobs, and of which nothing was made.
        used = set().union(*needs)
        needed |= {
            number
            for number, inputs in enumerate(needs)
            if number not in used and inputs and inputs <= needed
        }
        places = data_folders(root / "conf")

        with patch.context() as broken:
            broken.setattr(shutil, "rmtree", killed_after(fail))
            try:
                prune.carry_out(prune.make_plan(places, keep, 1))
            except KeyboardInterrupt:
                pass
        prune.carry_out(prune.make_plan(places, keep, 1))

        assert there(root) == needed
        assert set(root.glob("data/own/*/*/*")) == kept
        last = prune.make_plan(places, keep, 1)
        assert (last.versions, last.jobs, last.size) == ([], [], 0)


def killed_after(calls, rmtree=shutil.rmtree):
    left = [calls]

    def remove(folder, **options):
        if not options and not left[0]:
            next(Path(folder).rglob("*")).unlink()  # some of it is gone
            raise KeyboardInterrupt
        left[0] -= not options
        rmtree(folder, **options)

    return remove


def test_what_a_run_has_used_of_late_stays_with_what_it_was_made_of(project):
    put_job(project, 0, [])
    put_job(project, 1, [0], age=time.time() - 60)
    put_job(project, 2, [])

    prune.carry_out(prune.make_plan([project / "data"], 1, 1))

    assert there(project) == {0, 1}


@pytest.mark.parametrize("text", ['{"a": ', "[" * 100_000, "\udcff"])
def test_a_file_that_nobody_can_read_names_nothing(project, text):
    put_job(project, 0, set())
    put_job(project, 1, set())
    version = put_version(project, "own", "d.json", stamp(0), [0])
    (version / "notes.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    plan = prune.make_plan([project / "data"], 1, 1)
    assert [int(job.name) for job in plan.jobs] == [1]
    assert plan.kept == 1


def test_a_link_that_leads_back_hides_nothing(project):
    put_job(project, 0, set())
    put_version(project, "own", "d.json", stamp(0), [0])
    (project / "data" / "a_loop").symlink_to(project / "data")
    (project / "data" / "own" / "00_loop").symlink_to(project / "data" / "own")
    assert prune.make_plan([project / "data"], 1, 1).jobs == []


@pytest.mark.parametrize(("hours", "stays"), [(1, set()), (3, {0}), (0, set())])
def test_late_is_counted_in_hours(project, hours, stays):
    put_job(project, 0, set(), age=time.time() - 2 * 3600)
    prune.carry_out(prune.make_plan([], 1, hours))
    assert there(project) == stays


def test_what_a_killed_prune_left_is_in_nobodys_way(project):
    """Of a damaged folder, and of a job that was made again meanwhile."""
    job = put_job(project, 0, [])
    left = [job.with_name(job.name + end) for end in (".damaged-1.pruned", ".pruned")]
    for each in left:
        shutil.copytree(job, each)

    prune.carry_out(prune.make_plan([project / "data"], 1, 1))

    assert not [*job.parent.iterdir()]


def test_what_a_run_uses_after_the_plan_was_made_stays(project):
    jobs = [put_job(project, number, []) for number in range(2)]
    plan = prune.make_plan([project / "data"], 1, 1)
    os.utime(jobs[0])

    prune.carry_out(plan)

    assert there(project) == {0}


def test_versions_behind_links_count(project):
    put_job(project, 0, [])
    version = put_version(project, "own", "d.json", stamp(1), [0])
    (project / "disk").mkdir()
    shutil.move(version.parents[1], project / "disk" / "models")
    version.parents[1].symlink_to(project / "disk" / "models")

    prune.carry_out(prune.make_plan([project / "data"], 1, 1))

    assert there(project) == {0}


def test_a_model_that_nothing_names_is_no_measurement(project):
    put_version(project, "own", "d.json", stamp(1), [0])
    put_job(project, 0, [])
    put_job(project, 1, [0])
    put_job(project, 2, [0], kind="reward_model")

    prune.carry_out(prune.make_plan([project / "data"], 1, 1))

    assert there(project) == {0, 1}


def test_what_was_set_aside_goes_and_what_was_begun_stays(project):
    job = put_job(project, 0, [])
    for name in (".damaged-1", ".partial", ".logs"):
        shutil.copytree(job, job.with_name(job.name + name))

    prune.carry_out(prune.make_plan([project / "data"], 1, 1))

    (left,) = job.parent.iterdir()
    assert left.name.endswith(".partial")


def test_data_of_all_environments_are_looked_at(project):
    """Wherever they lie: a version there may be all that names a job."""
    conf = project / "conf" / "far" / "globals.yml"
    conf.parent.mkdir(parents=True)
    conf.write_text('data_root: "elsewhere/far"  # quoted\n')
    put_job(project, 0, [])
    version = put_version(project, "x", "d.json", stamp(1), [0])
    (project / "elsewhere" / "far").mkdir(parents=True)
    shutil.move(version.parents[1], project / "elsewhere" / "far")

    places = data_folders(project / "conf")
    prune.carry_out(prune.make_plan(places, 1, 1))

    assert there(project) == {0}
