"""Mutation testing: how many of a random sample of small faults do the tests notice?

Usage: python -m benchmarks.mutants [--sample 50] [--seed 0] [--tool cosmic-ray]
       [--keep FOLDER] [--again FOLDER]

Needs cosmic-ray (`pip install cosmic-ray`, in any environment). Works in a clone of the
last commit. Of every package in ``PACKAGES`` it draws so many of all the mutants that
cosmic-ray makes. A mutant meets tests until one fails: the quick ones of its package
that import its module, then all quick ones of its package and of the top folder, then
all slow ones that import its module, but for those of the command line. Prints a table,
and every mutant that survived.

``--keep`` leaves the sessions of cosmic-ray in a folder; ``--again`` tries those that
survived there once more, with the tests of the last commit.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("self_evolution", "preferences", "store")
# A union of types is evaluated by nobody.
SKIPPED = "core/ReplaceBinaryOperator_BitOr_%"
SECONDS = 600.0
_NOTHING_CHOSEN = 5  # exit code of pytest
QUICK = "not slow and not end_to_end and not gpu"
SLOW = "slow and not end_to_end and not gpu"
# Outcome, module, line, operator and change of a mutant.
Found = tuple[str, str, int, str, str]
_CONFIG = """\
[cosmic-ray]
module-path = "src/ser_kedro/{package}"
timeout = {seconds}
excluded-modules = []
test-command = "{python} benchmarks/mutants.py --test"
[cosmic-ray.distributor]
name = "local"
"""


def run_tests() -> int:
    """Run what should notice the mutant that lies in the working tree."""
    changed = _git("diff", "--name-only", "--", "src").split()
    (module,) = {Path(file) for file in changed}
    package = module.relative_to("src/ser_kedro").parts[0]
    dotted = ".".join(module.with_suffix("").parts[1:])
    names = re.compile(rf"\b{re.escape(dotted)}\b|{re.escape(_import_of(dotted))}")
    tests = Path("tests")
    direct = [f for f in sorted(tests.rglob("test_*.py")) if _names(f, names)]
    near = [f for f in direct if (tests / package) in f.parents]
    stages = (
        (QUICK, near),
        (QUICK, [tests / package, *sorted(tests.glob("test_*.py"))]),
        (SLOW, direct),
    )
    # Else the installed package, which is that of the first checkout, is tested.
    env = {**os.environ, "PYTHONPATH": str(Path("src").resolve())}
    for marks, chosen in stages:
        if chosen:
            words = ["-m", "pytest", "-q", "-x", "-m", marks, *map(str, chosen)]
            done = subprocess.run([sys.executable, *words], env=env, check=False)
            if done.returncode not in (0, _NOTHING_CHOSEN):
                return done.returncode
    return 0


def _import_of(dotted: str) -> str:
    parent, _, name = dotted.rpartition(".")
    return f"from {parent} import {name}"


def _names(file: Path, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.search(file.read_text("utf-8")))


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", *words], capture_output=True, text=True, check=True
    ).stdout


def draw(session: Path, sample: int, seed: int) -> int:
    """Keep a random sample of the mutants of a session; return how many there were."""
    with sqlite3.connect(session) as database:
        database.execute(
            "DELETE FROM work_items WHERE job_id IN (SELECT job_id FROM mutation_specs"
            " WHERE operator_name LIKE ?)",
            (SKIPPED,),
        )
        rows = database.execute("SELECT job_id FROM work_items ORDER BY job_id")
        places = database.execute(
            "SELECT job_id FROM mutation_specs WHERE operator_name NOT LIKE ? ORDER BY"
            " module_path, start_pos_row, start_pos_col, operator_name, occurrence",
            (SKIPPED,),
        )
        # Names of jobs are random; places are not.
        known = {name for (name,) in rows}
        jobs = [name for (name,) in places if name in known]
        kept = set(random.Random(seed).sample(jobs, min(sample, len(jobs))))
        gone = [(name,) for name in known - kept]
        for table in ("work_items", "mutation_specs"):
            database.executemany(f"DELETE FROM {table} WHERE job_id = ?", gone)
    return len(jobs)


def outcomes(session: Path) -> list[Found]:
    """Return outcome, module, line, operator and change of every mutant."""
    with sqlite3.connect(session) as database:
        return database.execute(
            "SELECT r.test_outcome, m.module_path, m.start_pos_row, m.operator_name,"
            " r.diff FROM work_results r JOIN mutation_specs m ON r.job_id = m.job_id"
            " ORDER BY m.module_path, m.start_pos_row"
        ).fetchall()


def again(sessions: Path) -> list[Found]:
    """Try once more what survived; return what survives still. Prints a table."""
    print("| package | tried | noticed at first | noticed now | not there any more |")
    print("|:--|:--|:--|:--|:--|")
    alive = []
    with tempfile.TemporaryDirectory() as folder:
        clone = _clone(Path(folder))
        for package in PACKAGES:
            found = outcomes(sessions / package)
            lived = [row for row in found if _survived(row)]
            if lived:
                _check_tests(clone / lived[0][1], clone)
            now = [_is_noticed(row, clone) for row in lived]
            tried, first = len(found), len(found) - len(lived)
            print(
                f"| `{package}` | {tried} | {_share(first, tried)}"
                f" | {_share(first + now.count(True), tried)} | {now.count(None)} |",
                flush=True,
            )
            alive += [row for row, ended in zip(lived, now, strict=True) if not ended]
    return alive


def _check_tests(module: Path, clone: Path) -> None:
    """Check that the tests pass where nothing but a comment is new."""
    text = module.read_text("utf-8")
    module.write_text(f"{text}# nothing\n", "utf-8")
    words = [sys.executable, "benchmarks/mutants.py", "--test"]
    done = subprocess.run(words, cwd=clone, capture_output=True, text=True, check=False)
    module.write_text(text, "utf-8")
    assert done.returncode == 0, done.stdout


def _is_noticed(mutant: Found, clone: Path) -> bool | None:
    """Put a mutant into a clone, test, and take it out again.

    Return ``None`` where its lines have changed since.
    """
    *_, diff = mutant
    change = diff[diff.index("--- a/") :].rstrip("\n") + "\n"
    put = ["git", "apply", "-"]
    if subprocess.run(put, cwd=clone, input=change, text=True, check=False).returncode:
        return None
    words = [sys.executable, "benchmarks/mutants.py", "--test"]
    try:
        done = subprocess.run(
            words, cwd=clone, capture_output=True, check=False, timeout=SECONDS
        )
        return done.returncode != 0
    except subprocess.TimeoutExpired:
        return True
    finally:
        subprocess.run(["git", "checkout", "--quiet", "."], cwd=clone, check=True)


def _clone(folder: Path) -> Path:
    clone = folder / "project"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    return clone


def _survived(mutant: Found) -> bool:
    return "survived" in mutant[0].lower()


def _share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.0%})"


def first(given: argparse.Namespace) -> list[Found]:
    """Mutate and test every package; return what survived. Prints a table."""
    print("| package | mutants | tried | noticed | survived |\n|:--|:--|:--|:--|:--|")
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        clone = _clone(Path(folder))
        for package in PACKAGES:
            config, session = Path(folder) / "config.toml", Path(folder) / package
            settings = {"python": sys.executable, "seconds": SECONDS}
            config.write_text(_CONFIG.format(package=package, **settings))
            for words in (("init", config, session), ("exec", config, session)):
                subprocess.run([given.tool, *map(str, words)], cwd=clone, check=True)
                if words[0] == "init":
                    there = draw(session, given.sample, given.seed)
            found = outcomes(session)
            lived = [row for row in found if _survived(row)]
            tried = len(found)
            print(
                f"| `{package}` | {there:,} | {tried}"
                f" | {_share(tried - len(lived), tried)} | {len(lived)} |",
                flush=True,
            )
            survivors += lived
            if given.keep:
                given.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(session, given.keep)
    return survivors


def main() -> int:
    """Mutate, test and print; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants")
    parser.add_argument("--sample", type=int, default=50, help="of each package")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tool", default="cosmic-ray", help="where cosmic-ray is")
    parser.add_argument("--keep", type=Path, help="a folder for its sessions")
    parser.add_argument("--again", type=Path, help="such a folder")
    parser.add_argument("--test", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.test:
        return run_tests()
    if given.again is None and shutil.which(given.tool) is None:
        parser.error(f"{given.tool}: not found; pip install cosmic-ray")
    survivors = again(given.again) if given.again else first(given)
    print("\n| survivor | operator | change |\n|:--|:--|:--|")
    for _, module, line, operator, diff in survivors:
        place = f"`{Path(module).relative_to('src/ser_kedro')}:{line}`"
        changed = [x for x in diff.splitlines() if re.match(r"[-+](?![-+])", x)]
        lines = " → ".join(f"`{x[1:].strip()}`".replace("|", "\\|") for x in changed)
        print(f"| {place} | {operator.removeprefix('core/')} | {lines} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
