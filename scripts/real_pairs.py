"""Self-evolution on real preference pairs with the demo-sized model.

Usage: python scripts/real_pairs.py [NAME ...]

Runs the command line as a user would, on the files of ../shared/data where they are,
and writes time and table to docs/results.md, whatever they show.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from results_page import commit, write_section

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT.parent / "shared" / "data"
SUMMARY = ROOT / "data" / "own" / "08_reporting" / "evolution_summary.md"

CASES = {
    "hh_rlhf_base": {
        "title": "HH-RLHF, parsed pairs (human labels)",
        "path": "hh_rlhf_base_train.jsonl.gz",
        "test_path": "hh_rlhf_base_test.jsonl.gz",
        "format": "pairs",
    },
    "hh_rlhf_raw": {
        "title": "HH-RLHF, original dialogues: trained on helpful, tested on harmless",
        "path": "hh_rlhf_raw_helpful_base.jsonl.gz",
        "test_path": "hh_rlhf_raw_harmless_base.jsonl.gz",
        "format": "hh",
    },
    "alpaca_eval_v1": {
        "title": "AlpacaEval 1 (labels by GPT-4)",
        "path": "alpaca_eval_v1_train.jsonl.gz",
        "test_path": "alpaca_eval_v1_test.jsonl.gz",
        "format": "pairs",
    },
}


def run_case(name: str) -> None:
    """Run one case and write its section."""
    case = CASES[name]
    given = [
        f"path={DATA / case['path']}",
        f"test_path={DATA / case['test_path']}",
        f"format={case['format']}",
    ]
    command = ["kedro", "run", "--pipelines", "self_evolve", "--env", "own"]
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", *command, "--params", ",".join(given)],
        cwd=ROOT,
        check=True,
    )
    minutes = (time.monotonic() - start) / 60
    newest = max(SUMMARY.glob("*/evolution_summary.md"))
    table = newest.read_text("utf-8").split("\n", 1)[1].strip()
    shown = ",".join(given).replace(str(DATA), "../shared/data")
    write_section(
        name,
        f"## {case['title']}\n\n"
        f"Command: `python scripts/real_pairs.py {name}`, which runs\n"
        f"`{' '.join(command)} --params {shown}`"
        f" (commit {commit()}, {os.cpu_count()} cores shared with other work):"
        f" {minutes:.1f} minutes.\n\n{table}\n",
    )


def main() -> None:
    """Run the cases that are named, or all."""
    if not DATA.is_dir():
        sys.exit(f"no real pairs: {DATA} is not there")
    for name in sys.argv[1:] or CASES:
        run_case(name)


if __name__ == "__main__":
    main()
