"""What a real run does when files are damaged, and when others run beside it.

Usage: python -m benchmarks.reliability [damage] [together] [cost]

Works in a copy of the project, in the environment ``test``, and prints the tables of
docs/reliability.md. Exits with 1 if anything went unnoticed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUN = ("run", "--env", "test", "--pipelines", "self_evolve")
# A file of each kind, by where it lies in the store.
KINDS = {
    "weights of the SFT model": "sft/*/model/model.safetensors",
    "tokenizer of the SFT model": "sft/*/model/tokenizer.json",
    "weights of a reward model": "reward_model/*/model/model.safetensors",
    "tokenizer of a reward model": "reward_model/*/model/tokenizer.json",
    "its `calibration.json`": "reward_model/*/model/calibration.json",
    "scores": "scores/*/*.arrow",
    "selection": "selection/*/*.arrow",
    "split table": "data_split/*/labeled_pairs.arrow",
    "`result.json`": "reward_model/*/result.json",
}


def flip(path: Path) -> None:
    """Invert 64 bytes in the middle."""
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + 64] = bytes(255 - byte for byte in data[half : half + 64])
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Leave the first half."""
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    """Leave no byte."""
    os.truncate(path, 0)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "64 bytes flipped": flip,
    "cut in half": cut,
    "emptied": empty,
    "deleted": Path.unlink,
}


def new_project(folder: Path) -> Path:
    """Copy what a run needs, without results."""
    for name in ("conf", "src", "pyproject.toml", ".telemetry"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        folder.mkdir(parents=True, exist_ok=True)
        copy(ROOT / name, folder / name)
    return folder


def start(
    project: Path, *words: str, module: str = "kedro", before: tuple[str, ...] = ()
) -> subprocess.Popen[str]:
    """Start a command in a project, its output in pipes, ``before`` in front of it."""
    here = {"PYTHONPATH": str(project / "src"), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*before, sys.executable, "-m", module, *words],
        cwd=project,
        env={**os.environ, **here},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit code of a command and what it printed."""
    said, told = process.communicate()
    return process.returncode, said, told


def damage(folder: Path) -> bool:
    """Damage a file of each kind in each way; verify, and run the same again."""
    project = new_project(folder / "damage")
    store = project / "data" / "store"
    code, table, told = finish(start(project, *RUN))
    assert code == 0, told
    print("| what was damaged |", " | ".join(DAMAGES), "|")
    print("|:--" * (1 + len(DAMAGES)) + "|")
    missed = 0
    for kind, place in KINDS.items():
        cells = []
        for change in DAMAGES.values():
            path = sorted(store.glob(place))[0]
            before = path.read_bytes()
            change(path)
            code, said, _ = finish(start(project, "verify", module="ser_kedro"))
            verified = code == 2 and path.name in said and said.count("\n") == 1
            code, again, told = finish(start(project, *RUN))
            lines = [line for line in told.splitlines() if " WARNING " in line]
            noticed = code == 0 and len(lines) == 1 and path.name in lines[0]
            # The job itself and no other: what stands on it keeps its cache.
            alone = told.count(": started") == 1 and again == table
            same = path.name == "result.json" or path.read_bytes() == before
            right = verified and noticed and alone and same
            missed += not right
            cells.append("remade" if right else "**missed**")
        print(f"| {kind} |", " | ".join(cells), "|", flush=True)
    return not missed


def accuracies(printed: str) -> str:
    """Return the column of test accuracies of a table."""
    rows = [line.split("|") for line in printed.splitlines() if line.count("|") > 8]
    return ", ".join(row[8].split("[")[0].strip() for row in rows[2:] if row[8].strip())


def together(folder: Path) -> bool:
    """Run three at once, of which the first to begin saves last."""
    seeds = (1, 0, 0)
    wanted = []
    for seed in (0, 1):
        code, said, told = finish(
            start(
                new_project(folder / f"alone{seed}"), *RUN, "--params", f"seed={seed}"
            )
        )
        assert code == 0, told
        wanted.append(said)
    project = new_project(folder / "together")
    first = start(project, *RUN, "--params", f"seed={seeds[0]}")
    # It has named its versions and begun its first job; the others, which come later
    # in the alphabet, save before it does.
    assert first.stderr is not None
    while ": started" not in first.stderr.readline():
        pass
    first.send_signal(signal.SIGSTOP)
    others = [start(project, *RUN, "--params", f"seed={seed}") for seed in seeds[1:]]
    ended = [finish(process) for process in others]
    first.send_signal(signal.SIGCONT)
    ended.insert(0, finish(first))
    print("| run | test accuracy, loop by loop | alone | same table |")
    print("|:--|:--|:--|:--|")
    whole = True
    for number, (seed, (code, said, told)) in enumerate(
        zip(seeds, ended, strict=True), 1
    ):
        assert code == 0, told
        same = said == wanted[seed]
        whole &= same
        print(
            f"| {number}, `seed={seed}` | {accuracies(said)} |"
            f" {accuracies(wanted[seed])} | {'yes' if same else '**no**'} |",
            flush=True,
        )
    return whole


def cost(folder: Path) -> bool:
    """Time the checks of a file of weights, and of a store with many small files."""
    from ser_kedro.store.fingerprints import hash_file
    from ser_kedro.store.integrity import read_record
    from ser_kedro.store.layout import PROJECT_VARIABLE, finished

    project = new_project(folder / "cost")
    code, _, told = finish(start(project, *RUN))
    assert code == 0, told
    begun = time.perf_counter()
    code, _, told = finish(start(project, *RUN))
    run = time.perf_counter() - begun
    assert code == 0, told
    os.environ[PROJECT_VARIABLE] = str(project)
    jobs = list(finished())
    begun = time.perf_counter()
    for job in jobs:
        read_record(job)
    small = time.perf_counter() - begun
    weights = folder / "weights"
    weights.write_bytes(bytes(2**30))
    seconds = []
    for _ in range(2):
        begun = time.perf_counter()
        hash_file(weights)
        seconds.append(time.perf_counter() - begun)
    print("| what | time |")
    print("|:--|:--|")
    print(f"| a run that reuses everything | {run:.1f} s |")
    print(f"| of that, all files of its {len(jobs)} jobs, read once | {small:.2f} s |")
    print(f"| weights of 1 GiB, first time in a process | {seconds[0]:.1f} s |")
    print(f"| the same, again | {1e6 * seconds[1]:.0f} µs |")
    return True


PARTS = {"damage": damage, "together": together, "cost": cost}


def main() -> None:
    """Do the parts that are named, or all."""
    names = sys.argv[1:] or list(PARTS)
    with tempfile.TemporaryDirectory() as folder:
        whole = [PARTS[name](Path(folder)) for name in names]
    sys.exit(not all(whole))


if __name__ == "__main__":
    main()
