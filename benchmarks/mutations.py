"""Faults planted one at a time: do the tests notice?

Usage: python -m benchmarks.mutations [NAME ...]

Each mutation changes one place of a copy of the project and runs the tests that should
notice. Writes docs/mutations.md: what was changed, and the first test that failed.
M1 to M19, N3, N11 and N17 are those of a review, by which eleven tests were missing; L1
to L14 are planted in the object of the loop. A mutation whose text is not found, or not
once, stops the run: it has to be written anew.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "mutations.md"
_LOOP = "self_evolution/loop.py"
_TEST_LOOP = "self_evolution/test_loop.py"


@dataclass(frozen=True)
class Mutation:
    """A fault.

    Attributes:
        name: Its short name.
        fault: What it makes of the code, in words.
        file: Below ``src/ser_kedro``.
        old: Text that occurs once.
        new: What it becomes.
        tests: Files below ``tests`` that should notice.
    """

    name: str
    fault: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "M1",
        "responses of the pool are sorted, never swapped",
        "preferences/keyed.py",
        "return (chosen < rejected) != swap",
        "return chosen < rejected",
        ("preferences/test_split.py", "preferences/test_split_job.py"),
    ),
    Mutation(
        "M2",
        "SFT: the chosen response's row comes first",
        "training/sft.py",
        "sorted(pair) if both",
        "tuple(pair) if both",
        ("training/test_sft.py",),
    ),
    Mutation(
        "M3",
        "a loop scores the whole pool again",
        _LOOP,
        "scoring, self.launcher, state.remaining)",
        "scoring, self.launcher, None)",
        (_TEST_LOOP,),
    ),
    Mutation(
        "M4",
        "every loop trains with the same seed",
        _LOOP,
        "seed=self.seed + state.loop + 1,",
        "seed=self.seed,",
        (_TEST_LOOP,),
    ),
    Mutation(
        "M5",
        "the temperature is ignored where loops are compared",
        _LOOP,
        "log_losses((chosen - rejected) / Calibration.of(model).temperature)",
        "log_losses(chosen - rejected)",
        (_TEST_LOOP,),
    ),
    Mutation(
        "M6",
        "`memory: previous` forgets the previous selection",
        _LOOP,
        '"previous": taken[:1]',
        '"previous": []',
        (_TEST_LOOP,),
    ),
    Mutation(
        "M7",
        "votes are calibrated twice",
        _LOOP,
        "alone = not state.model.voters",
        "alone = True",
        (_TEST_LOOP,),
    ),
    Mutation(
        "M8",
        "features of any backbone are copied",
        "models/features.py",
        "[table for table in known if _basis(table) == basis]",
        "[table for table in known]",
        ("training/test_head.py",),
    ),
    Mutation(
        "M9",
        "nothing is flushed to disk before the rename",
        "store/job_store.py",
        "    _flush_to_disk(staging)\n    staging.rename(place)",
        "    staging.rename(place)\n    _flush_to_disk(place)",
        ("store/test_job_store.py",),
    ),
    Mutation(
        "M10",
        "a new run does not wait for the ranks of a killed one",
        "store/job_store.py",
        "        _wait_for_ranks(staging)\n        yield",
        "        yield",
        ("store/test_job_store.py", "launch/test_process.py"),
    ),
    Mutation(
        "M11",
        "power is computed one-sided",
        "statistics/power.py",
        "t.ppf(1 - alpha / 2, contrast.freedom)",
        "t.ppf(1 - alpha, contrast.freedom)",
        ("ablations/test_compare.py",),
    ),
    Mutation(
        "M12",
        "the gap closed is reported however small the gap",
        "ablations/compare.py",
        "if not whole.value > GAP_STANDARD_ERRORS * whole.error:",
        "if not whole.value > 0:",
        ("ablations/test_compare.py",),
    ),
    Mutation(
        "M13",
        "the model's own dropout stays on in reward training",
        "training/reward.py",
        "    disable_dropout_in_model(model)\n",
        "",
        ("training/test_reward.py",),
    ),
    Mutation(
        "M14",
        "the value's gradient reaches the policy",
        "policy/actor_critic.py",
        "self.value_head(found.detach().float())",
        "self.value_head(found.float())",
        ("policy/test_ppo.py", "policy/test_ppo_formulas.py"),
    ),
    Mutation(
        "M15",
        "`kl_bound` is ignored",
        "policy/ppo.py",
        "held_out.kl > self.params.kl_bound or held_out.reward <= best.reward",
        "held_out.reward <= best.reward",
        ("policy/test_ppo.py",),
    ),
    Mutation(
        "M16",
        "the first response alone decides how much of the prompt is cut",
        "models/encode.py",
        "longest = max(len(a), len(b))",
        "longest = len(a)",
        ("models/test_encode.py",),
    ),
    Mutation(
        "M17",
        "rewards are centred on the chosen responses alone",
        "models/fit_calibration.py",
        "np.mean([np.mean(chosen), np.mean(rejected)])",
        "np.mean(chosen)",
        ("models/test_calibration.py",),
    ),
    Mutation(
        "M18",
        "a pass without a pair of its own counts",
        "training/batches.py",
        '"scale": 0.0 if mute else scale}',
        '"scale": scale}',
        ("training/test_batches.py",),
    ),
    Mutation(
        "M19",
        "the loops are wired to start from the seed model, not the SFT model",
        "pipelines/self_evolve/pipeline.py",
        '"sft_model": "sft_model",',
        '"sft_model": "seed_reward_model",',
        ("test_pipeline_registry.py",),
    ),
    Mutation(
        "N3",
        "an environment does not win over a preset",
        "configuration.py",
        "known = _merged(layers[0], *presets, layers[1], remembered)",
        "known = OmegaConf.merge(layers[0], layers[1], *presets, remembered)",
        ("test_configuration.py",),
    ),
    Mutation(
        "N11",
        "diagnostics are of the seed model, not of the kept one",
        "evaluation/diagnostics.py",
        '"kept_loop": kept,',
        '"kept_loop": 0,',
        ("evaluation/test_diagnostics.py", "pipelines/test_nodes.py"),
    ),
    Mutation(
        "N17",
        "the PPO node applies the reward model otherwise than it was trained",
        "pipelines/ppo/nodes.py",
        "scoring=reward.scoring,",
        'scoring=reward.scoring.model_copy(update={"max_length": 64}),',
        ("pipelines/test_nodes.py",),
    ),
    Mutation(
        "L1",
        "a selection is that of the loop before (`status_rule: schedule`)",
        _LOOP,
        "            loop=state.loop + 1,\n            calibration",
        "            loop=state.loop,\n            calibration",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L2",
        "thresholds see rewards that are not calibrated",
        _LOOP,
        "Calibration.of(state.model) if alone else Calibration(),",
        "Calibration(),",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L3",
        "a loop trains although its status says stop",
        _LOOP,
        "if isinstance(selection, Nothing) or selection.status == Status.STOP:",
        "if isinstance(selection, Nothing):",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L4",
        "`keep_seed_labels: false` is ignored",
        _LOOP,
        "if self.params.keep_seed_labels:",
        "if True:",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L5",
        "a loop is compared with the last model, not with the best",
        _LOOP,
        "_validation_losses(state.best), _validation_losses(model)",
        "_validation_losses(state.model), _validation_losses(model)",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L6",
        "loops without gain are not counted",
        _LOOP,
        "without_gain=state.without_gain,",
        "without_gain=0,",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L7",
        "what is left of the pool is measured by the selection",
        _LOOP,
        "pool_left=remaining.rows / max(1, state.pool_size),",
        "pool_left=selection.rows / max(1, state.pool_size),",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L8",
        "the refit does not learn the validation labels",
        _LOOP,
        "human = (self.data.labeled_pairs, self.data.validation_pairs)",
        "human = (self.data.labeled_pairs,)",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L9",
        "the refit starts from the state after the last loop",
        _LOOP,
        "before = state.before(loop)",
        "before = state",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L10",
        "`average: loops` averages with the seed model",
        _LOOP,
        "else (state.model, trained),",
        "else (state.seed_model, trained),",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L11",
        "the loops train one voter",
        _LOOP,
        "tuple(pairs), self.reward.voters)",
        "tuple(pairs), 1)",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L12",
        "one voter labels for all",
        _LOOP,
        "voters = voters_of(state.model)",
        "voters = (state.model,)",
        (_TEST_LOOP,),
    ),
    Mutation(
        "L13",
        "`self_evolve.epochs` is ignored",
        _LOOP,
        '"epochs": self.params.epochs,',
        '"epochs": None,',
        (_TEST_LOOP,),
    ),
    Mutation(
        "L14",
        "`start: seed` starts from the SFT model",
        _LOOP,
        '"seed": state.seed_model,',
        '"seed": self.data.sft_model,',
        (_TEST_LOOP,),
    ),
)


def notice(mutation: Mutation, copy: Path) -> str | None:
    """Run the tests with a fault in the copy; return the first that fails."""
    file = copy / "src" / "ser_kedro" / mutation.file
    text = file.read_text("utf-8")
    if text.count(mutation.old) != 1:
        sys.exit(f"{mutation.name}: {text.count(mutation.old)} x {mutation.old!r}")
    file.write_text(text.replace(mutation.old, mutation.new), "utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
            + [f"tests/{name}" for name in mutation.tests],
            cwd=copy,
            env={**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        file.write_text(text, "utf-8")
    found = re.search(r"^(?:FAILED|ERROR) tests/(\S+)", done.stdout, re.MULTILINE)
    if done.returncode not in (0, 1):
        sys.exit(f"{mutation.name}: pytest ended with {done.returncode}\n{done.stdout}")
    return found[1] if found else None


def page(found: dict[Mutation, str | None]) -> str:
    """Return docs/mutations.md."""
    noticed = sum(test is not None for test in found.values())
    rows = [
        f"| {one.name} | `{one.file}` | {one.fault} |"
        f" {f'`{test}`' if test else '**not noticed**'} |"
        for one, test in found.items()
    ]
    return "\n".join(
        [
            "# Faults that the tests notice",
            "",
            f"`python -m benchmarks.mutations` planted {len(found)} faults, one at a"
            f" time; the tests noticed {noticed}.",
            "",
            "| | file | fault | first test that failed |",
            "|:--|:--|:--|:--|",
            *rows,
            "",
        ]
    )


def main() -> None:
    """Plant the faults that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", nargs="*")
    names = set(parser.parse_args().name)
    asked = [one for one in MUTATIONS if not names or one.name in names]
    found: dict[Mutation, str | None] = {}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        kept = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        ).stdout.split(b"\0")
        for name in filter(None, map(os.fsdecode, kept)):
            if (ROOT / name).is_file():
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, copy / name)
        for mutation in asked:
            begun = time.monotonic()
            found[mutation] = notice(mutation, copy)
            said = found[mutation] or "NOT NOTICED"
            seconds = time.monotonic() - begun
            print(f"{mutation.name} {said} ({seconds:.0f} s)", flush=True)
    if not names:
        PAGE.write_text(page(found), "utf-8")
    sys.exit(not all(found.values()))


if __name__ == "__main__":
    main()
