"""``ser-kedro look``, as a user calls it."""

import json

import pytest

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def project(new_project):
    copy = new_project()
    rows = [
        {"frage": f"Why {n}?", "besser": "A long answer.", "schlechter": "Short."}
        for n in range(5)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (copy / "pairs.jsonl").write_text(text)
    return copy


@pytest.fixture
def look(python, project):
    return lambda *args: python("-m", "ser_kedro", "look", *args, cwd=project)


def test_names_and_counts(look):
    columns = "prompt=frage,chosen=besser,rejected=schlechter"
    done = look("pairs.jsonl", "--columns", columns)
    assert done.returncode == 0, done.stderr
    assert "columns as given, with prompt=frage, chosen=besser" in done.stdout
    assert "100.0% of 5" in done.stdout
    assert "user: Why 0?\npreferred> A long answer.\nother> Short." in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("pairs.jsonl",), "its columns are besser, frage, schlechter; name them"),
        (("pairs.jsonl", "--columns", "prompt=fragen"), "did you mean frage?"),
        (("pairs.jsonl", "--columns", "prompt"), "write MEANING=COLUMN"),
        (("pairs.jsonl", "--columns", "promt=frage"), "did you mean prompt?"),
        (("pairs.jsonl", "--format", "pears"), "did you mean pairs?"),
        (("nowhere.jsonl",), "no such file"),
    ],
)
def test_mistakes_are_one_line(look, args, said):
    done = look(*args)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("Error: ") and said in line


def test_leaves_nothing(look, project):
    before = {p for p in project.rglob("*") if "__pycache__" not in p.parts}
    look("pairs.jsonl", "--format", "pairs")
    after = {p for p in project.rglob("*") if "__pycache__" not in p.parts}
    assert before == after
