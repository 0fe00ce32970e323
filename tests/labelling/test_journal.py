"""What is on disk after each answer."""

import json
import os

import pytest

from ser_kedro.errors import DataError
from ser_kedro.labelling.journal import Answer, Journal, Undo


def answer(number=0, choice="first", *, swapped=False, **changes):
    known = {
        "number": number,
        "pair_id": f"pair{number}",
        "repeat": False,
        "swapped": swapped,
        "choice": choice,
        "seconds": 2.5,
        "time": 1e9,
        "annotator": "ann",
        "random": True,
        "prompt": ({"role": "user", "content": "Why?"},),
        "response_a": "A",
        "response_b": "B",
        "source": "pool",
    }
    return Answer(**{**known, **changes})


@pytest.fixture
def journal(file):
    opened = Journal.open(file)
    yield opened
    opened.close()


def labels(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.mark.parametrize(
    ("choice", "swapped", "said"),
    [
        ("first", False, ("A", "B", 1.0, True)),
        ("first", True, ("B", "A", 1.0, True)),
        ("second", False, ("B", "A", 1.0, False)),
        ("second", True, ("A", "B", 1.0, False)),
        ("tie", False, ("A", "B", 0.5, True)),
        ("tie", True, ("B", "A", 0.5, True)),
    ],
)
def test_the_label_is_of_the_response_and_not_of_its_place(choice, swapped, said):
    label = answer(choice=choice, swapped=swapped).label
    names = ("chosen", "rejected", "probability", "chosen_shown_first")
    assert tuple(label[name] for name in names) == said


def test_labels_say_who_when_and_how_long(journal, file):
    journal.add(answer())
    (label,) = labels(file)
    assert (label["annotator"], label["time"], label["seconds"]) == ("ann", 1e9, 2.5)
    assert (label["random"], label["repeat"]) == (True, False)


def test_each_entry_is_flushed_before_add_returns(journal, file, monkeypatch):
    flushed = []
    flush = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda n: (flushed.append(os.fstat(n).st_ino), flush(n))
    )
    journal.add(answer())
    log = file.with_name("labels.jsonl.log")
    assert flushed == [log.stat().st_ino, file.stat().st_ino]


def test_what_cannot_be_written_is_not_there(journal, file, monkeypatch):
    journal.add(answer(0))
    log = file.with_name("labels.jsonl.log")
    before = log.read_bytes(), file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk is full"):
            journal.add(answer(1))
    assert (log.read_bytes(), file.read_bytes()) == before
    assert len(journal.standing) == 1
    journal.add(answer(1, "second"))
    assert [each["chosen"] for each in labels(file)] == ["A", "B"]


def fail(_):
    raise OSError("the disk is full")


def test_the_journal_only_grows_and_the_labels_follow(journal, file):
    log = file.with_name("labels.jsonl.log")
    entries = [
        answer(0),
        answer(1, "skip"),
        Undo(number=2, undoes=0, time=1e9, annotator="ann"),
        answer(3, "second", pair_id="pair0"),
    ]
    before = b""
    for entry, count in zip(entries, [1, 1, 0, 1], strict=True):
        journal.add(entry)
        assert log.read_bytes().startswith(before) and log.read_bytes() != before
        before = log.read_bytes()
        assert len(labels(file)) == count
    assert labels(file)[0]["chosen"] == "B"


def test_goes_on_where_it_was_left(journal, file):
    journal.add(answer(0))
    journal.add(answer(1, "tie"))
    journal.close()
    written = file.read_text()
    file.unlink()  # it follows from the journal
    again = Journal.open(file)
    assert (again.standing, again.count) == (journal.standing, 2)
    assert file.read_text() == written
    again.close()


def test_a_line_that_a_crash_cut_off_is_left_out(journal, file):
    journal.add(answer(0))
    journal.close()
    log = file.with_name("labels.jsonl.log")
    whole = log.read_bytes()
    log.write_bytes(whole + whole[:40])
    again = Journal.open(file)
    again.add(answer(1))
    again.close()
    assert log.read_bytes().startswith(whole)
    assert [each["chosen"] for each in labels(file)] == ["A", "A"]
    Journal.open(file).close()


def test_a_broken_line_is_named(journal, file):
    journal.close()
    file.with_name("labels.jsonl.log").write_text("{}\n")
    with pytest.raises(DataError, match=r"labels.jsonl.log:1: no entry"):
        Journal.open(file)


def test_a_file_of_somebody_else_is_left_alone(file):
    file.write_text('{"prompt": "Why?"}\n')
    with pytest.raises(DataError, match="did not write it"):
        Journal.open(file)
    assert labels(file) == [{"prompt": "Why?"}]


def test_only_one_process_writes(journal, file):
    with pytest.raises(DataError, match="another ser-kedro label is at work"):
        Journal.open(file)


def test_a_folder_that_is_not_there(file):
    with pytest.raises(DataError, match="cannot be written"):
        Journal.open(file.parent / "no" / "labels.jsonl")
