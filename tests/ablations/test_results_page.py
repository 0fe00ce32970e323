"""The command that writes docs/results.md, on files as the store has them."""

import importlib.util
import json
from pathlib import Path

import pytest

from ser_kedro.store.tables import write_table

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location(
        "results_page", ROOT / "scripts" / "results_page.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def files(project, simulated):
    """Development as a table, confirmation as a reference to one."""
    levels = {"seed": 0.6, "ser": 0.9, "full": 1.4}
    made = {}
    for phase, first in (("development", 100), ("confirmation", 0)):
        table, _ = simulated(levels, first=first, prompts=50)
        output = write_table(project, phase, table.to_batches(), table.schema)
        made[phase] = project / output.path
    reference = {
        "kind": "table",
        "path": "confirmation.arrow",
        "fingerprint": "x",
        "rows": 1,
    }
    made["confirmation"] = project / "confirmation.json"
    made["confirmation"].write_text(json.dumps(reference))
    return made


def test_writes_page_rows_and_figures(script, files, tmp_path, capsys):
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "results.md").write_text(
        "# Results\n\n<!-- x -->\nkept\n<!-- end of x -->\n"
    )
    known = {"data": "demo", "share": 0.15, "arm": "ser", "seed": 7, "kept": True}
    loops = [
        {
            **known,
            "loop": n,
            "loop_accuracy": a,
            "selected": 9,
            "self_label_accuracy": s,
        }
        for n, a, s in ((0, 0.5, None), (1, 0.625, 0.875))
    ]
    (tmp_path / "history.json").write_text(json.dumps(loops))
    arguments = [
        *("--confirmation-history", str(tmp_path / "history.json")),
        *("--development", str(files["development"])),
        *("--confirmation", str(files["confirmation"]), "--docs", str(docs)),
    ]
    for _ in range(2):  # a second time replaces what is there
        script.main(arguments)
    text = (docs / "results.md").read_text()
    assert "kept" in text
    assert text.count("## Does self-evolution help?") == 1
    assert "python scripts/results_page.py --confirmation-history" in text
    assert text.count("### Loop by loop") == 1 and "+12.5" in text
    assert "**Development**\n\n|" not in text  # it has no history
    assert "**Confirmation**: draws 0, 1, 2, 3, 4." in text
    rows = json.loads((docs / "results.json").read_text())
    assert {row["phase"] for row in rows} == {"development", "confirmation"}
    drawn = (docs / "figures" / "demo_arms.svg").read_text()
    assert drawn.startswith("<svg") and "accuracy of every arm" in drawn
    assert "## Does self-evolution help?" in capsys.readouterr().out


def test_a_mistake_is_one_line(script, files, tmp_path, capsys):
    same = str(files["development"])
    with pytest.raises(SystemExit) as ended:
        script.main(["--development", same, "--confirmation", same])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: confirmation: demo: draw 100 was used in")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--confirmation", "none.arrow"], "none.arrow: is not readable as outcomes"),
        (["--labels", "demo"], "--labels demo: write DATA=NUMBER"),
        (["--confirmation-history", "none.json"], "history: "),
        ([], "outcomes: give some of the phases development, confirmation"),
    ],
)
def test_other_mistakes_too(script, files, tmp_path, capsys, arguments, said):
    known = ["--development", str(files["development"])] if arguments else []
    with pytest.raises(SystemExit) as ended:
        script.main([*known, *arguments, "--docs", str(tmp_path)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Error: ") and said in line
    assert not list(tmp_path.glob("results.*"))


def test_outcomes_of_an_earlier_version(script, files, tmp_path, capsys, project):
    table = script.outcomes(files["development"]).drop_columns(["excess_length"])
    old = write_table(project, "old", table.to_batches(), table.schema)
    with pytest.raises(SystemExit):
        script.main(["--development", str(project / old.path)])
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no excess_length; run its pipeline again" in line
