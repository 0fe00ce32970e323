import pytest

from ser_kedro.self_evolution.progress import MAX_LOOPS, Outcome
from ser_kedro.self_evolution.state import (
    EvolutionData,
    EvolutionState,
    LoopRecord,
    advance,
    begin,
    skip,
)
from ser_kedro.store.references import ModelRef, TableRef


def model(name):
    return ModelRef(kind="reward_model", path=name, fingerprint=name)


def rows(count):
    return TableRef(path="rows", fingerprint=str(count), rows=count)


def data(pool):
    return EvolutionData(
        labeled_pairs=rows(9),
        validation_pairs=rows(9),
        unlabeled_pairs=rows(pool),
        sft_model=model("sft"),
    )


SEED = model("seed")


def step(state, outcome, *, last_loop=9, left=50):
    loop = state.loop + 1
    record = LoopRecord(
        loop=loop,
        status="1",
        pool=state.pool_left,
        selected=state.pool_left - left,
        pool_left=left / 100,
        outcome=outcome,
        model=model(f"loop {loop}"),
        remaining=rows(left),
    )
    return advance(state, record, last_loop=last_loop)


def evolve(*outcomes, **options):
    state = begin(data(100), SEED)
    for outcome in outcomes:
        state = step(state, outcome, **options)
    return state


def test_begin_keeps_the_seed_and_the_whole_pool():
    state = begin(data(100), SEED)

    assert (state.best, state.best_loop, state.loop) == (SEED, 0, 0)
    assert state.pool_left == 100
    assert not state.stopped
    assert state.records[0].outcome == "seed"


def test_begin_with_an_empty_pool():
    assert begin(data(0), SEED).pool_left == 0


def test_an_emptied_pool_is_empty():
    assert evolve(Outcome.IMPROVED, left=0).pool_left == 0


def test_improved_becomes_the_best():
    state = evolve(Outcome.NO_GAIN, Outcome.IMPROVED)

    assert (state.best, state.best_loop) == (model("loop 2"), 2)


def test_best_stays_the_seed_when_nothing_improves():
    state = evolve(Outcome.NO_GAIN, Outcome.CONVERGED)

    assert (state.best, state.best_loop) == (SEED, 0)


def test_best_stays_that_of_an_earlier_loop_after_a_collapse():
    state = evolve(Outcome.IMPROVED, Outcome.NO_GAIN, Outcome.COLLAPSED)

    assert (state.best, state.best_loop) == (model("loop 1"), 1)


def test_improved_resets_the_loops_without_gain():
    assert evolve(Outcome.NO_GAIN).without_gain == 1
    assert evolve(Outcome.NO_GAIN, Outcome.IMPROVED).without_gain == 0
    assert evolve(Outcome.IMPROVED, Outcome.NO_GAIN).without_gain == 1


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome.COLLAPSED,
        Outcome.POOL_EMPTY,
        Outcome.NO_CONFIDENT_PAIRS,
        Outcome.CONVERGED,
    ],
)
def test_some_outcomes_stop_the_evolution(outcome):
    state = evolve(outcome)

    assert state.stopped
    assert state.records[-1].stop_reason == outcome.value


@pytest.mark.parametrize("outcome", [Outcome.IMPROVED, Outcome.NO_GAIN])
def test_others_do_not(outcome):
    state = evolve(outcome)

    assert not state.stopped
    assert state.records[-1].stop_reason is None


@pytest.mark.parametrize("outcome", [Outcome.IMPROVED, Outcome.NO_GAIN])
def test_the_last_loop_adds_max_loops(outcome):
    state = evolve(outcome, last_loop=1)

    assert state.stopped
    assert state.records[-1].outcome == outcome
    assert state.records[-1].stop_reason == MAX_LOOPS


def test_a_loop_that_stops_of_itself_at_the_last_says_why():
    state = evolve(Outcome.CONVERGED, last_loop=1)

    assert state.records[-1].stop_reason == Outcome.CONVERGED


def test_skip_changes_nothing_but_the_records():
    state = evolve(Outcome.IMPROVED, Outcome.COLLAPSED)

    skipped = skip(skip(state))

    assert [r.outcome for r in skipped.records[-2:]] == [Outcome.SKIPPED] * 2
    assert skipped.loop == 4
    assert skipped.records[-1].model is None
    assert skipped.model_copy(update={"records": state.records}) == state


def test_the_last_model_is_not_always_the_best():
    state = evolve(Outcome.IMPROVED, Outcome.NO_GAIN, left=7)

    assert state.model == model("loop 2")
    assert state.seed_model == SEED
    assert skip(state).model == state.model
    assert skip(state).remaining == rows(7)


def test_before_a_loop_the_later_ones_are_not_known():
    state = evolve(Outcome.IMPROVED, Outcome.NO_GAIN).before(2)

    assert (state.loop, state.model) == (1, model("loop 1"))


def test_a_state_survives_json():
    state = skip(evolve(Outcome.IMPROVED, Outcome.COLLAPSED))

    assert EvolutionState.model_validate_json(state.model_dump_json()) == state
