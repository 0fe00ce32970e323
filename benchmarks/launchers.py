"""SFT, reward training and labelling in two ranks, compared with one process.

Each case does the three jobs, in one launch, on small data of the demo world: under
one launcher, every weight trained or LoRA, rows packed or plain. The rewards that come
out are compared with those of the same jobs in one process, which sees the same global
batches.

Writes docs/launchers.md and docs/launchers.json. What a former call has finished is not
done again.

Usage: ``python -m benchmarks.launchers``
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

from tabulate import tabulate

from ser_kedro.launch import rank
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.store.job import NOT_MINE, Job
from ser_kedro.store.layout import project_root
from ser_kedro.store.references import ModelRef, TableRef

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "launchers.md"
LIMIT = 1e-3

_CPU = {"processes": 2, "devices": (), "threads": 1}
_DEEPSPEED = {**_CPU, "kind": "deepspeed", "environment": {"DS_ACCELERATOR": "cpu"}}
LAUNCHERS: dict[str, dict[str, Any]] = {
    "zero2": {**_DEEPSPEED, "deepspeed": "conf/launch/zero2.json"},
    "zero3": {**_DEEPSPEED, "deepspeed": "conf/launch/zero3.json"},
    "accelerate": {**_CPU, "kind": "accelerate"},
    "torchrun": {**_CPU, "kind": "torchrun"},
}
CASES = [
    "-".join(case)
    for case in itertools.product(LAUNCHERS, ("full", "lora"), ("packed", "plain"))
]


class ThreeJobs(Job):
    """The three jobs one after the other, in the same ranks.

    Attributes:
        sft_pairs: What the language model is tuned on.
        labeled: What the reward model is trained on.
        validation: What it is calibrated on.
        pool: What it labels.
        lora: Train adapters.
        packing: Pack rows.
    """

    stage: ClassVar[str] = "three_jobs"
    distributed: ClassVar[bool] = True

    sft_pairs: TableRef
    labeled: TableRef
    validation: TableRef
    pool: TableRef
    lora: bool
    packing: bool

    def work(self, workspace: Path) -> dict[str, TableRef]:
        """Write ``sft``, ``reward_model`` and ``scores``, a folder each."""
        from ser_kedro.models.score_job import ScoreJob

        sft = sft_job(self.sft_pairs, lora=self.lora)
        model = self._do(sft, workspace)["model"]
        reward = self._do(self._training(model), workspace)["model"]
        scores = ScoreJob(
            model=reward,
            pairs=self.pool,
            max_length=256,
            score_tokens=600,
            packing=self.packing,
        )
        scored = self._do(scores, workspace).get("scores")
        if scored is None:
            return NOT_MINE
        return {"scores": scored.model_copy(update={"path": "scores/scores.arrow"})}

    def _training(self, model: ModelRef) -> Job:
        return reward_job(
            model,
            self.labeled,
            self.validation,
            lora=self.lora,
            packing=self.packing,
            max_tokens_per_microbatch=400,  # cuts each step into several passes
        )

    def _do(self, job: Job, workspace: Path) -> dict[str, Any]:
        folder = workspace / job.stage
        folder.mkdir(exist_ok=True)
        made = job.work(folder)
        rank.barrier()
        inside = folder.relative_to(project_root())
        return {
            name: one.model_copy(update={"path": (inside / one.path).as_posix()})
            for name, one in made.items()
        }


def sft_job(pairs: TableRef, *, lora: bool) -> Job:
    """Describe the tuning of a tiny model."""
    from ser_kedro.models.params import ModelParams, ScratchParams
    from ser_kedro.training.params import SftParams
    from ser_kedro.training.sft_job import SftJob

    scratch = ScratchParams(
        vocab_size=400, hidden_size=32, intermediate_size=64, layers=2, heads=2
    )
    params = SftParams(**_training(lora), scheduler="cosine", micro_batch_size=2)
    model = ModelParams(name="tiny", scratch=scratch)
    return SftJob(model=model, pairs=pairs, params=params, seed=0)


def reward_job(
    start: ModelRef,
    pairs: TableRef,
    validation: TableRef,
    *,
    lora: bool,
    **changes: Any,
) -> Job:
    """Describe the training of a reward model, with parameters changed as asked."""
    from ser_kedro.training.params import RewardParams
    from ser_kedro.training.reward_job import TrainRewardJob

    params = RewardParams(
        **{
            **_training(lora),
            "epochs": 8 if lora else 10,
            "scheduler": "linear",
            **changes,
        }
    )
    return TrainRewardJob(
        start=start, pairs=(pairs,), validation=validation, params=params, seed=1
    )


def long_job(start: ModelRef) -> Job:
    """Describe a training that is long enough to be killed in its middle."""
    data = tables()
    return reward_job(
        start,
        data["labeled"],
        data["validation"],
        lora=False,
        epochs=30,
        save_steps=20,
        learning_rate=5e-4,
    )


def _training(lora: bool) -> dict[str, Any]:
    # Gentle enough that rounding does not grow: with larger steps two runs in *one*
    # process, whose micro-batches differ, end further apart than the limit.
    from ser_kedro.models.params import LoraParams

    return {
        "learning_rate": 5e-3 if lora else 2e-3,
        "batch_size": 8,
        "epochs": 2 if lora else 4,
        "max_length": 256,
        "lora": LoraParams(r=8, alpha=16) if lora else None,
        "keep_adapter": lora,
    }


def tables() -> dict[str, TableRef]:
    """Write pairs of the demo world into the project, by the part they play."""
    import pyarrow as pa

    from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs
    from ser_kedro.preferences.schema import LABELED
    from ser_kedro.store.tables import write_table

    world = WorldParams(
        pairs=96, test_pairs=4, phrases=40, phrases_per_response=(2, 4), fillers=4.0
    )
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
    # Numbers that no batch divides, so that last steps are short and unevenly shared.
    parts = {
        "sft_pairs": rows[:21],
        "labeled": rows[21:52],
        "validation": rows[52:64],
        "pool": rows[64:],
    }
    folder = project_root() / "data" / "store" / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    made = {}
    for name, part in parts.items():
        batch = pa.RecordBatch.from_pylist(part, LABELED)
        output = write_table(folder, name, [batch], LABELED)
        path = f"data/store/tables/{output.path}"
        made[name] = output.model_copy(update={"path": path})
    return made


def project(folder: Path) -> None:
    """Make ``folder`` the project in which all jobs work."""
    os.environ["SER_KEDRO_PROJECT"] = str(folder)
    shutil.copytree(
        ROOT / "conf" / "launch", folder / "conf" / "launch", dirs_exist_ok=True
    )


def launcher(name: str) -> LauncherParams:
    """Return a launcher of two ranks on the CPU, or ``inline``."""
    return LauncherParams(name=name, **LAUNCHERS[name]) if name != "inline" else INLINE


def rewards(case: str, params: LauncherParams) -> dict[str, Any]:
    """Do the three jobs of a case in the project; return the rewards that come out.

    Args:
        case: ``NAME-full|lora-packed|plain``.
        params: What runs them, whatever the case is called.

    Returns:
        Rewards of the ``validation`` pairs and of the ``pool``, shape ``(2, n)``, and
        how far the saved model's were from the trained one's.
    """
    import numpy as np

    from ser_kedro.launch.executor import run
    from ser_kedro.store.json_io import read_json
    from ser_kedro.store.tables import read_table

    _, weights, rows = case.split("-")
    job = ThreeJobs(**tables(), lora=weights == "lora", packing=rows == "packed")
    made = run(job, params)["scores"]
    scores = read_table(made)
    folder = made.location.parents[1] / "reward_model" / "model"
    validation = read_json(folder / "validation.json")
    return {
        "validation": np.stack([validation["chosen"], validation["rejected"]]),
        "pool": np.stack([scores["reward_a"], scores["reward_b"]]),
    }


def compare(case: str, folder: Path) -> dict[str, float]:
    """Do a case in ranks and in one process; return the largest differences."""
    project(folder / "alone")
    alone = rewards(case, INLINE)
    project(folder / "ranks")
    started = time.monotonic()
    ranks = rewards(case, launcher(case.partition("-")[0]))
    return {
        **{part: float(abs(alone[part] - ranks[part]).max()) for part in alone},
        "spread": float(alone["pool"].std()),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Do what is missing, and write the page."""
    record = PAGE.with_suffix(".json")
    done = json.loads(record.read_text("utf-8")) if record.is_file() else {}
    for case in CASES:
        if case in done:
            continue
        with tempfile.TemporaryDirectory() as folder:
            done[case] = compare(case, Path(folder))
        record.write_text(json.dumps(done, indent=2) + "\n", "utf-8")
        print(case, done[case], flush=True)
        write_page(done)


def write_page(done: dict[str, dict[str, float]]) -> None:
    """Write the table of all cases."""
    rows = [
        [*case.split("-"), f"{found['pool']:.1e}", f"{found['validation']:.1e}",
         f"{found['spread']:.2f}", found["seconds"]]
        for case, found in done.items()
    ]  # fmt: skip
    worst = max(max(found["pool"], found["validation"]) for found in done.values())
    head = ["launcher", "weights", "rows", "pool", "validation", "spread", "seconds"]
    PAGE.write_text(
        "# Two ranks against one process\n\n"
        "Largest absolute difference of a reward, after SFT, reward training and"
        " labelling of small data in two CPU ranks, from the same jobs in one"
        f" process: {worst:.1e} at most, where {LIMIT:g} is asked for. `spread` is the"
        " standard deviation of the pool's rewards. Made by `python -m"
        " benchmarks.launchers`.\n\n"
        + tabulate(rows, headers=head, tablefmt="pipe", disable_numparse=True)
        + "\n",
        "utf-8",
    )


if __name__ == "__main__":
    # Ranks import ``ThreeJobs`` by the name of this module: it must not be __main__.
    importlib.import_module("benchmarks.launchers").main()
