"""What a run's test scores say beyond accuracy."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ser_kedro.evaluation.breakdown import by_difficulty, by_source
from ser_kedro.evaluation.length import length_bias, length_figure
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.reliability import (
    CalibrationFigures,
    calibration,
    reliability_figure,
)
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.models.calibration import Calibration
from ser_kedro.preferences.demo_world.world import WorldParams, gold_rewards
from ser_kedro.preferences.schema import Message
from ser_kedro.self_evolution.state import EvolutionState
from ser_kedro.statistics.estimate import Estimate, correct
from ser_kedro.store.json_io import plain
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.store.tables import read_table

Floats = NDArray[np.float64]
BEFORE, AFTER = "as it is", "with its temperature"


@dataclass(frozen=True)
class Measured:
    """A model on labelled pairs.

    Attributes:
        chosen: Raw rewards of the preferred responses, shape ``(n,)``.
        rejected: Raw rewards of the others.
        temperature: Of the model.
    """

    chosen: Floats
    rejected: Floats
    temperature: float = 1.0

    @classmethod
    def load(cls, model: ModelRef, scores: TableRef) -> Measured:
        """Read a model's scores of the test pairs, and its temperature."""
        table = read_table(scores)
        chosen, rejected = (
            table[name].to_numpy().astype(np.float64)
            for name in ("reward_a", "reward_b")
        )
        return cls(chosen, rejected, Calibration.of(model).temperature)

    @property
    def margins(self) -> Floats:
        """Reward of the preferred response minus the other's."""
        return self.chosen - self.rejected

    @property
    def right(self) -> Floats:
        """1, 0 or ½ for each pair."""
        return correct(self.chosen, self.rejected)


def diagnose_loops(
    loop_history: EvolutionState,
    test_scores: TestScores,
    test_pairs: TableRef,
    world: WorldParams | None,
    params: EvaluationParams,
) -> tuple[dict[str, Any], Any, Any]:
    """Return the diagnostics of all loops, and two figures of the kept model.

    Args:
        loop_history: The state after the last loop.
        test_scores: Test scores by loop.
        test_pairs: The test pairs.
        world: As of ``diagnostics``.
        params: How to report.
    """
    tested = {
        loop: Measured.load(model, test_scores.root[loop])
        for loop, model in loop_history.models.items()
    }
    kept, pairs = loop_history.best_loop, read_table(test_pairs)
    found = diagnostics(tested, kept, pairs, params, world)
    return plain(found), *figures(tested[kept], pairs, params)


def diagnostics(
    tested: dict[int, Measured],
    kept: int,
    pairs: pa.Table,
    params: EvaluationParams,
    world: WorldParams | None = None,
) -> dict[str, Any]:
    """Return what the test scores say beyond accuracy.

    Args:
        tested: Models by loop, with the seed's as 0.
        kept: Loop whose model is kept.
        pairs: The test pairs, row by row of the scores.
        params: How to report.
        world: The demo world, whose gold gap says how easy a pair is; elsewhere the
            seed model's margin does.

    Returns:
        ``kept_loop``; by loop, ``accuracy_by_source``, ``calibration`` (before and
        after temperature) and ``length``; of the kept model, ``difficulty`` by
        ``difficulty_measure``.
    """
    groups = np.array(pairs["group"].to_pylist())
    sources = np.array(pairs["source"].to_pylist())
    ease = abs(tested[0].margins) if world is None else abs(gold_gap(world, pairs))
    by_loop: list[dict[str, Any]] = []
    for loop, model in sorted(tested.items()):
        bias = length_bias(model.chosen, model.rejected, lengths(pairs), groups, params)
        by_loop.append(
            {
                "loop": loop,
                "accuracy_by_source": by_source(model.right, sources, groups, params),
                "calibration": {
                    name: asdict(figures) | {"miscalibrated": figures.miscalibrated}
                    for name, figures in curves(model, params).items()
                },
                "length": None if bias is None else bias.as_dict(),
            }
        )
    measure = "margin of the seed model" if world is None else "gap in gold reward"
    return {
        "kept_loop": kept,
        "loops": by_loop,
        "difficulty_measure": measure,
        "difficulty": by_difficulty(tested[kept].right, ease, groups, params),
    }


def figures(
    model: Measured, pairs: pa.Table, params: EvaluationParams
) -> tuple[Any, Any]:
    """Return the reliability and the length figure of a model."""
    return (
        reliability_figure(curves(model, params)),
        length_figure(model.margins, lengths(pairs), params.bins),
    )


def curves(model: Measured, params: EvaluationParams) -> dict[str, CalibrationFigures]:
    """Return a model's calibration before and after its temperature."""
    return {
        name: calibration(
            model.chosen, model.rejected, temperature=temperature, bins=params.bins
        )
        for name, temperature in ((BEFORE, 1.0), (AFTER, model.temperature))
    }


def lengths(pairs: pa.Table) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the lengths of preferred and other responses, in characters."""
    chosen, rejected = (
        np.array([len(text) for text in pairs[name].to_pylist()], np.int64)
        for name in ("chosen", "rejected")
    )
    return chosen, rejected


def gold_gap(world: WorldParams, pairs: pa.Table) -> Floats:
    """Return the gold reward of the preferred response minus the other's.

    Negative where the label is wrong, as some human labels are.
    """
    prompts = [
        [Message(turn["role"], turn["content"]) for turn in prompt]
        for prompt in pairs["prompt"].to_pylist()
    ]
    chosen, rejected = (
        gold_rewards(world, prompts, pairs[name].to_pylist())
        for name in ("chosen", "rejected")
    )
    return chosen - rejected


def lines(found: dict[str, Any]) -> list[str]:
    """Return the diagnostics as lines of the summary: the seed's and the kept model's.

    Args:
        found: What ``diagnostics`` returned.
    """
    text = []
    for loop in found["loops"]:
        if loop["loop"] not in (0, found["kept_loop"]):
            continue
        before, after = loop["calibration"][BEFORE], loop["calibration"][AFTER]
        said = "miscalibrated" if after["miscalibrated"] else "no error beyond chance"
        text.append(
            f"- Calibration (loop {loop['loop']}): error {before['ece']:.3f}, with its"
            f" temperature {after['ece']:.3f} (by chance up to"
            f" {after['expected']:.3f}: {said}); Brier {before['brier']:.3f} →"
            f" {after['brier']:.3f}."
        )
        if (length := loop["length"]) is not None:
            excess = Estimate.read(length["excess"])
            text.append(
                f"- Length (loop {loop['loop']}): annotators prefer the longer"
                f" response in {length['people_prefer_longer']:.1%} of the pairs, the"
                f" model in {length['model_prefers_longer']:.1%}"
                f" ({excess.points()}): bias {length['bias']}."
            )
    return text
