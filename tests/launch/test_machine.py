import os

import pytest

from ser_kedro.launch import machine


@pytest.mark.parametrize(
    ("asked", "said"),
    [("1", "X with 1 thread"), ("12", "X with 12 threads")],
)
def test_the_threads_that_were_asked_for(monkeypatch, asked, said):
    monkeypatch.setattr(machine, "processor", lambda: "X")
    monkeypatch.setenv("OMP_NUM_THREADS", asked)

    assert machine.machine() == said


@pytest.mark.parametrize("asked", [None, "", "0", "many", "-1"])
def test_without_them_all_that_this_process_may_use(monkeypatch, asked):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if asked is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", asked)

    assert machine.threads() == 3


def test_the_processor_by_its_model(monkeypatch, tmp_path):
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nmodel name\t: A: B 3\n\nmodel name\t: C\n")
    monkeypatch.setattr(machine, "_PROCESSORS", listed)

    assert machine.processor() == "A: B 3"


def test_the_processor_where_nothing_is_listed(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_PROCESSORS", tmp_path / "none")
    monkeypatch.setattr(machine.platform, "processor", lambda: "")
    monkeypatch.setattr(machine.platform, "machine", lambda: "arm64")

    assert machine.processor() == "arm64"
