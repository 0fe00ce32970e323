"""SFT, reward training and labelling in two ranks, compared with one process.

Each case does the three jobs on small data of the demo world under one launcher, with
or without LoRA, rows packed or plain, and compares the rewards that come out with
those of the same jobs inline. Writes docs/launchers.md and docs/launchers.json. Cases
that a former call has finished are not done again.

Usage: ``python scripts/launcher_matrix.py [--only zero2-lora-packed ...]``
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PROJECT = ROOT / "data" / "launcher_matrix"
LIMIT = 1e-3

CPU = {"processes": 2, "devices": (), "threads": 1}
LAUNCHERS: dict[str, dict[str, Any]] = {
    "zero2": {
        **CPU,
        "kind": "deepspeed",
        "deepspeed": "conf/launch/zero2.json",
        "environment": {"DS_ACCELERATOR": "cpu"},
    },
    "zero3": {
        **CPU,
        "kind": "deepspeed",
        "deepspeed": "conf/launch/zero3.json",
        "environment": {"DS_ACCELERATOR": "cpu"},
    },
    "accelerate": {**CPU, "kind": "accelerate"},
    "torchrun": {**CPU, "kind": "torchrun"},
}
CASES = ["-".join(case) for case in itertools.product(
    LAUNCHERS, ("full", "lora"), ("packed", "plain"))]


def prepare(project: Path) -> None:
    """Make a project to work in, and let jobs find it."""
    os.environ["SER_KEDRO_PROJECT"] = str(project)
    shutil.copytree(
        ROOT / "conf" / "launch", project / "conf" / "launch", dirs_exist_ok=True
    )


def tables() -> dict[str, Any]:
    """Write the demo world's pairs, and return references by the part they play."""
    from ser_kedro.launch.reference import Reference, project_root
    from ser_kedro.launch.table import write_table
    from ser_kedro.preferences.schema import LABELED
    from ser_kedro.preferences.world import WorldParams, draw_pairs
    import pyarrow as pa

    world = WorldParams(pairs=96, test_pairs=4, phrases=40, phrases_per_response=(2, 4))
    rows = [
        {
            "pair_id": pair.pair_id,
            "group": pair.pair_id,
            "prompt": [{"role": m.role, "content": m.content} for m in pair.prompt],
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "source": pair.source,
        }
        for pair in draw_pairs(world, "train")
    ]
    # Numbers that no batch divides, so that the last steps are short ones.
    parts = {"sft": rows[:21], "labeled": rows[21:52], "validation": rows[52:64],
             "pool": rows[64:]}
    folder = project_root() / "data" / "store" / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, part in parts.items():
        batch = pa.RecordBatch.from_pylist(part, LABELED)
        output = write_table(folder, name, [batch], LABELED)
        made[name] = Reference(
            kind="table", path=f"data/store/tables/{output.file}",
            fingerprint=output.digest or "", rows=output.rows,
        )
    return made


def road(case: str, launcher: Any) -> dict[str, Any]:
    """Do the three jobs of a case under a launcher; return what they made.

    Args:
        case: ``LAUNCHER-full|lora-packed|plain``; the launcher's name is not read.
        launcher: ``LauncherParams``.
    """
    from ser_kedro.launch.run import run
    from ser_kedro.policy.sft import SftJob
    from ser_kedro.reward.params import (
        LoraParams, ModelParams, RewardParams, ScratchParams, SftParams,
    )
    from ser_kedro.reward.score import ScoreJob
    from ser_kedro.reward.train import TrainRewardJob

    _, weights, rows = case.split("-")
    data = tables()
    lora = LoraParams(r=4, alpha=8) if weights == "lora" else None
    packing = rows == "packed"
    scratch = ScratchParams(
        vocab_size=400, hidden_size=32, intermediate_size=64, layers=2, heads=2
    )
    given = {"learning_rate": 1e-2, "batch_size": 8, "epochs": 3, "max_length": 256,
             "lora": lora}
    sft = SftJob(
        model=ModelParams(name="tiny", scratch=scratch), pairs=data["sft"],
        params=SftParams(**given, scheduler="cosine", micro_batch_size=2), seed=0,
    )
    model = run(sft, launcher)["model"]
    training = TrainRewardJob(
        start=model, pairs=(data["labeled"],), validation=data["validation"],
        # A budget that cuts each step into several passes.
        params=RewardParams(
            **given | {"learning_rate": 3e-2}, scheduler="linear", packing=packing, micro_tokens=400),
        seed=1,
    )
    reward = run(training, launcher)["model"]
    labelling = ScoreJob(
        model=reward, pairs=data["pool"], max_length=256, score_tokens=600,
        packing=packing,
    )
    return {"sft": model, "reward": reward, "scores": run(labelling, launcher)["scores"]}


def rewards(made: dict[str, Any]) -> dict[str, Any]:
    """Return the rewards of the validation pairs and of the pool."""
    import numpy as np

    from ser_kedro.launch.table import read_table
    from ser_kedro.reward.train import validation_rewards

    scores = read_table(made["scores"])
    return {
        "validation": np.stack(validation_rewards(made["reward"])),
        "pool": np.stack([scores["reward_a"], scores["reward_b"]]),
    }


def compare(case: str, project: Path) -> dict[str, float]:
    """Do a case in ranks and inline, and return the largest differences of rewards."""
    from ser_kedro.launch.params import INLINE, LauncherParams

    name = case.split("-")[0]
    found = {}
    for where, params in (
        ("alone", INLINE), ("ranks", LauncherParams(name=name, **LAUNCHERS[name]))
    ):
        prepare(project / where)
        started = time.monotonic()
        made = road(case, params)
        found[where] = rewards(made)
        seconds = time.monotonic() - started
    alone, ranks = found["alone"], found["ranks"]
    return {
        **{part: float(abs(alone[part] - ranks[part]).max()) for part in alone},
        "spread": float(alone["pool"].std()),
        "reload_gap": made["reward"].metrics["reload_gap"],
        "seconds": round(seconds, 1),
    }


if __name__ == "__main__":
    import sys, logging
    logging.basicConfig(level=logging.INFO)
    for c in sys.argv[1:]:
        t = time.time()
        print(c, json.dumps(compare(c, Path("/tmp/scale_t") / c)), time.time() - t, flush=True)
