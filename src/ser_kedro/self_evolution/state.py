"""The state that travels from loop to loop."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from ser_kedro.self_evolution.progress import MAX_LOOPS, STOPPING, Outcome
from ser_kedro.store.references import ModelRef, SelectionRef, TableRef

# Statuses of records that are no loops.
COMMITTEE, CO_TRAINED, PLAIN = "committee", "co-trained", "all labels"
COMMITTEES = (COMMITTEE, CO_TRAINED)


class LoopRecord(BaseModel):
    """What one loop did; loop 0 is the seed.

    Attributes:
        loop: Its number.
        status: Learning status: ``seed``, ``1``, ``2``, ``1|2``, ``stop`` or ``-``;
            ``committee`` or, of one that learned from the pool, ``co-trained`` where
            the labeller itself was judged; ``all labels`` of the model that is
            compared with; ``refit 3`` where loop 3's model was trained once more.
        pool: Pairs in the pool when it began.
        selected: Pairs that it took.
        pool_left: Share of all unlabelled pairs that remain in the pool after it.
        outcome: See ``Outcome``; ``seed``, ``refit`` and ``control`` of what is no
            loop.
        stop_reason: Why the loops ended here; ``None`` elsewhere.
        difference: Validation log-loss of the best model before minus this one's.
        standard_error: Of that difference.
        model: The model it trained; a loop that trained none has none.
        scores: The rewards that its selection was made from.
        selection: The pairs it took, with the labels it gave them.
        remaining: Rows that it left in the pool.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    loop: int
    status: str
    pool: int
    selected: int
    pool_left: float
    outcome: str
    stop_reason: str | None = None
    difference: float | None = None
    standard_error: float | None = None
    model: ModelRef | None = None
    scores: TableRef | None = None
    selection: SelectionRef | None = None
    remaining: TableRef | None = None


class EvolutionData(BaseModel):
    """What an evolution works on; nothing here knows the labels of the pool.

    Attributes:
        labeled_pairs: The few human labels.
        validation_pairs: Those that compare loops.
        unlabeled_pairs: The pool.
        sft_model: The model that reward models start from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    labeled_pairs: TableRef
    validation_pairs: TableRef
    unlabeled_pairs: TableRef
    sft_model: ModelRef


class EvolutionState(BaseModel):
    """Where the evolution stands after a loop: all that the next one needs to know.

    Attributes:
        data: What it works on.
        best_loop: Loop whose model is kept so far; 0 is the seed.
        best: That model.
        without_gain: Loops in a row without gain.
        stopped: No later loop does anything.
        records: One for each loop so far, from loop 0 on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: EvolutionData
    best_loop: int
    best: ModelRef
    without_gain: int = 0
    stopped: bool = False
    records: tuple[LoopRecord, ...]

    @property
    def models(self) -> dict[int, ModelRef]:
        """The models that were trained, by loop; 0 is the seed's."""
        return {
            record.loop: record.model
            for record in self.records
            if record.model is not None
        }

    @property
    def seed_model(self) -> ModelRef:
        """The model of loop 0."""
        return self.models[0]

    @property
    def model(self) -> ModelRef:
        """The model that was trained last."""
        return list(self.models.values())[-1]

    @property
    def loop(self) -> int:
        """Number of the last loop so far."""
        return self.records[-1].loop

    @property
    def pool_size(self) -> int:
        """Unlabelled pairs at the start."""
        return self.data.unlabeled_pairs.rows

    @property
    def remaining(self) -> TableRef | None:
        """Rows of ``unlabeled_pairs`` still in the pool; ``None``: all."""
        left = [record.remaining for record in self.records if record.remaining]
        return left[-1] if left else None

    @property
    def pool_left(self) -> int:
        """Pairs still in the pool."""
        return self.remaining.rows if self.remaining else self.pool_size

    def before(self, loop: int) -> EvolutionState:
        """Return the state that a loop began with, as far as its training goes."""
        return self.model_copy(update={"records": self.records[:loop]})


def begin(data: EvolutionData, seed_model: ModelRef) -> EvolutionState:
    """Return the state before loop 1.

    Args:
        data: What the evolution works on.
        seed_model: The seed reward model.
    """
    record = LoopRecord(
        loop=0,
        status="seed",
        pool=data.unlabeled_pairs.rows,
        selected=0,
        pool_left=1.0,
        outcome="seed",
        model=seed_model,
    )
    return EvolutionState(data=data, best_loop=0, best=seed_model, records=(record,))


def skip(state: EvolutionState) -> EvolutionState:
    """Return the state after a loop that an earlier one made needless."""
    share = state.records[-1].pool_left
    record = LoopRecord(
        loop=state.loop + 1,
        status="-",
        pool=state.pool_left,
        selected=0,
        pool_left=share,
        outcome=Outcome.SKIPPED,
    )
    return add(state, record)


def after_loops(
    state: EvolutionState, status: str, outcome: str, model: ModelRef, **known: Any
) -> LoopRecord:
    """Return the record of a model that no loop made, with the next number.

    Args:
        state: The state so far.
        status: As of ``LoopRecord``, like all that follows.
        outcome: As there.
        model: As there.
        known: More fields of it.
    """
    return LoopRecord(
        loop=state.loop + 1,
        status=status,
        pool=state.pool_left,
        selected=0,
        pool_left=state.records[-1].pool_left,
        outcome=outcome,
        model=model,
        **known,
    )


def add(state: EvolutionState, record: LoopRecord) -> EvolutionState:
    """Return the state with one record more."""
    return state.model_copy(update={"records": (*state.records, record)})


def keep(state: EvolutionState, record: LoopRecord) -> EvolutionState:
    """Return the state with one record more, whose model is the best."""
    best = {"best_loop": record.loop, "best": record.model}
    return add(state.model_copy(update=best), record)


def advance(
    state: EvolutionState,
    record: LoopRecord,
    *,
    last_loop: int,
) -> EvolutionState:
    """Return the state after a loop.

    Args:
        state: The state before it.
        record: What it did; its ``stop_reason`` is filled in here.
        last_loop: Number of the last loop that may run.
    """
    outcome = Outcome(record.outcome)
    improved = outcome is Outcome.IMPROVED
    reason = outcome.value if outcome in STOPPING else None
    if reason is None and record.loop >= last_loop:
        reason = MAX_LOOPS
    record = record.model_copy(update={"stop_reason": reason})
    return state.model_copy(
        update={
            "best_loop": record.loop if improved else state.best_loop,
            "best": record.model if improved else state.best,
            "without_gain": 0 if improved else state.without_gain + 1,
            "stopped": reason is not None,
            "records": (*state.records, record),
        }
    )
