from __future__ import annotations

import json

from ser_kedro.preferences.look import look
from ser_kedro.preferences.source import PreferenceSource


def described(tmp_path, rows, part="train", limit=1000, **options):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = PreferenceSource(path=str(path), pool_path=str(path), **options)
    return look(source, part, limit)


def value(text, name):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(name)]
    return " ".join(line.split()).removeprefix(name).strip()


def row(n, better, **more):
    answers = {"response_a": "long answer", "response_b": "short"}
    return {"prompt": f"Why {n}?", **answers, "preference": better, **more}


ROWS = [row(0, "a"), row(1, "a"), row(2, "b", notes="x"), row(3, "tie"), row(0, "a")]


def test_counts(tmp_path):
    text = described(tmp_path, ROWS)

    assert text.startswith("Format: compared")
    assert value(text, "rows read") == "5"
    assert value(text, "usable pairs") == "4"
    assert value(text, "dropped: tie") == "1"
    assert value(text, "copies of pairs") == "1"
    assert value(text, "different prompts") == "3"
    assert value(text, "the preferred answer stands first") == "75.0% of 4"
    assert value(text, "the longer answer is preferred") == "75.0% of 4"
    assert value(text, "characters, prompt") == "6 (5 % 6, 95 % 6)"
    assert "Columns with text that are not used: notes (1)" in text


def test_three_pairs_are_shown(tmp_path):
    text = described(tmp_path, ROWS)

    assert text.count("\npreferred> ") == 3
    assert "user: Why 2?\npreferred> short\nother> long answer" in text


def test_what_people_said_of_a_pair_is_shown(tmp_path):
    pair = {"prompt": "Why?", "chosen": "g", "rejected": "b"}
    sure, soft = {**pair, "probability": 1.0}, {**pair, "probability": 0.75}
    assert "soft label" not in described(tmp_path, [sure])
    assert "soft label> 0.75" in described(tmp_path, [soft])


def test_reads_no_more_than_asked(tmp_path):
    assert value(described(tmp_path, ROWS, limit=2), "rows read").startswith(
        "2 (the first"
    )


def test_pool_knows_no_label(tmp_path):
    text = described(tmp_path, ROWS, part="pool")

    assert "preferred" not in text.split("\n\n", 1)[1]
    assert "one answer> long answer" in text


def test_escapes_do_not_reach_the_terminal(tmp_path):
    assert "\x1b" not in described(tmp_path, [row(0, "a", prompt="\x1b[31mred")])
    column = {"\x1b]0;key\x07": "some text"}
    told = described(tmp_path, [row(0, "a") | column])
    assert "\ufffd]0;key\ufffd (1)" in told and "\x1b" not in told
