"""What each step of the loop gives its job, for every switch; nothing is trained."""

from dataclasses import replace

import numpy as np
import pytest

from ser_kedro.launch.params import LauncherParams
from ser_kedro.models import scoring
from ser_kedro.models.calibration import Calibration
from ser_kedro.self_evolution import loop as loop_module
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.state import EvolutionData, LoopRecord
from ser_kedro.self_evolution.voters import voters_of
from ser_kedro.store.json_io import write_json
from ser_kedro.store.references import NOTHING, ModelRef, SelectionRef, TableRef
from ser_kedro.training import reward_model
from ser_kedro.training.params import RewardParams

REWARD = RewardParams(
    learning_rate=1e-2,
    epochs=4,
    batch_size=8,
    scheduler="linear",
    max_length=256,
    dropout=0.1,
)
# What a committee reads changes no training.
WHOLE = REWARD.model_copy(update={"views": ()})
SEED = 5
LAUNCHER = LauncherParams(name="mine")


def table(name, rows=8):
    return TableRef(path=name, fingerprint=name, rows=rows)


def selected(name, status="1", rows=8):
    return SelectionRef(path=name, fingerprint=name, rows=rows, status=status)


SFT = ModelRef(kind="language_model", path="sft", fingerprint="sft")
LABELED, VALIDATION, POOL = table("labeled"), table("validation", 6), table("pool", 48)
SCORES, REMAINING, LEFT = table("scores"), table("remaining", 30), table("left", 12)
SELECTION = selected("selection_2")
DATA = EvolutionData(
    labeled_pairs=LABELED,
    validation_pairs=VALIDATION,
    unlabeled_pairs=POOL,
    sft_model=SFT,
)


@pytest.fixture
def model(project):
    """Make a model of which only what lies beside the weights is there."""

    def make(name, calibration=Calibration(), margins=(1.0, 1.0), **known):
        folder = project / name
        calibration.save(folder)
        rewards = {"chosen": list(margins), "rejected": [0.0] * len(margins)}
        write_json(folder / "validation.json", rewards)
        return ModelRef(
            kind="reward_model",
            path=name,
            fingerprint=name,
            metrics={"steps": 4},
            **known,
        )

    return make


@pytest.fixture
def jobs(monkeypatch, model):
    """The jobs that were asked for; what they make is numbered."""
    asked = []

    def run(job, launcher):
        assert launcher is LAUNCHER
        asked.append(job)
        number = len(asked)
        return {
            "model": model(f"model-{number}"),
            "features": table(f"features-{number}"),
            "scores": table(f"scores-{number}"),
            "selection": selected(f"selection-{number}"),
            "remaining": table(f"remaining-{number}", 48 - 8 * number),
        }

    for module in (loop_module, reward_model, scoring):
        monkeypatch.setattr(module, "run", run)
    return asked


@pytest.fixture
def loop():
    """Make a loop with other parameters than the defaults."""

    def make(reward=None, max_loops=4, **params):
        return EvolutionLoop(
            data=DATA,
            params=EvolutionParams(**params),
            reward=REWARD.model_copy(update=reward or {}),
            seed=SEED,
            max_loops=max_loops,
            launcher=LAUNCHER,
        )

    return make


@pytest.fixture
def seed_model(model):
    return model("seed")


def after(state, model, loop, selection, remaining=REMAINING):
    """The state after one more loop, which trained that model."""
    record = LoopRecord(
        loop=loop,
        status="1",
        pool=state.pool_left,
        selected=selection.rows,
        pool_left=remaining.rows / 48,
        outcome="improved",
        model=model,
        scores=SCORES,
        selection=selection,
        remaining=remaining,
    )
    return state.model_copy(
        update={
            "best_loop": loop,
            "best": model,
            "records": (*state.records, record),
        }
    )


@pytest.fixture
def state(loop, model, seed_model):
    """After loop 1, whose model is the best."""
    begun = loop().begin(seed_model)
    return after(begun, model("loop_1"), 1, selected("selection_1"))


def names(references):
    return [reference.fingerprint for reference in references]


class TestSeed:
    def test_is_trained_on_the_human_labels(self, loop, jobs):
        trained = loop().seed_model()
        (job,) = jobs
        assert (job.start, job.pairs, job.validation) == (SFT, (LABELED,), VALIDATION)
        assert (job.seed, job.params) == (SEED, WHOLE)
        assert trained.fingerprint == "model-1"

    def test_a_ready_one_is_calibrated_on_what_is_held_out(self, loop, jobs, model):
        ready = model("ready")
        begun = loop()
        begun = replace(begun, data=DATA.model_copy(update={"sft_model": ready}))
        assert begun.seed_model().fingerprint == "model-2"
        scored, calibrated = jobs
        assert (scored.model, scored.pairs) == (ready, VALIDATION)
        assert calibrated.scores.fingerprint == "scores-1"

    def test_knows_nothing_of_the_loops(self, loop, jobs):
        loop().seed_model()
        loop(start="previous", epochs=1, dropout=0.5, average="loops").seed_model()
        assert jobs[0] == jobs[1]

    def test_begins_with_the_whole_pool(self, loop, seed_model):
        state = loop().begin(seed_model)
        assert (state.loop, state.best_loop, state.best) == (0, 0, seed_model)
        assert (state.remaining, state.pool_left, state.stopped) == (None, 48, False)
        assert state.model == state.seed_model == seed_model


class TestSelfLabel:
    def test_scores_the_whole_pool_at_first(self, loop, jobs, seed_model):
        loop().self_label(loop().begin(seed_model))
        (job,) = jobs
        assert (job.model, job.pairs, job.rows) == (seed_model, POOL, None)

    def test_scores_what_is_left_with_the_last_model(self, loop, state, jobs):
        scores = loop(reward={"score_tokens": 99}).self_label(state)
        (job,) = jobs
        assert (job.model.fingerprint, job.pairs, job.rows) == (
            "loop_1",
            POOL,
            REMAINING,
        )
        assert (job.score_tokens, job.max_length) == (99, 256)
        assert scores.fingerprint == "scores-1"

    def test_labels_with_the_last_model_not_with_the_best(self, loop, state, jobs):
        kept = state.model_copy(update={"best": state.seed_model, "best_loop": 0})
        loop().self_label(kept)
        assert jobs[0].model.fingerprint == "loop_1"

    def test_asks_every_voter_and_lets_them_vote(self, loop, model, jobs):
        calibrations = [Calibration(0.1, 2.0), Calibration(0.2, 3.0)]
        second = model("voter_1", calibrations[1])
        first = model("voter_0", calibrations[0], voters=(second,))
        scores = loop().self_label(loop().begin(first))
        *scored, vote = jobs
        assert names(job.model for job in scored) == ["voter_0", "voter_1"]
        assert names(vote.scores) == ["scores-1", "scores-2"]
        assert list(vote.calibrations) == calibrations
        assert scores.fingerprint == "scores-3"


class TestSelect:
    def test_goes_by_the_calibration_of_the_last_model(self, loop, model, jobs):
        known = Calibration(0.5, 2.0)
        state = loop().begin(model("calibrated", known))
        selection, remaining = loop().select(state, SCORES)
        (job,) = jobs
        assert (job.calibration, job.scores, job.pairs) == (known, SCORES, POOL)
        assert job.loop == 1
        assert (selection.fingerprint, remaining.fingerprint) == (
            "selection-1",
            "remaining-1",
        )

    def test_knows_which_loop_it_is(self, loop, state, jobs):
        loop().select(state, SCORES)
        assert jobs[0].loop == 2

    def test_votes_are_calibrated_already(self, loop, model, jobs):
        voter = model("voter", Calibration(0.5, 2.0), voters=(model("other"),))
        loop().select(loop().begin(voter), SCORES)
        assert jobs[0].calibration == Calibration()

    def test_depends_on_the_parameters_of_selection_alone(self, loop, state, jobs):
        loop().select(state, SCORES)
        others = {"patience": 7, "refit": True, "start": "seed", "memory": "all"}
        loop(**others).select(state, SCORES)
        loop(tau_high=0.9).select(state, SCORES)
        assert jobs[0] == jobs[1] != jobs[2]


class TestRetrain:
    @pytest.mark.parametrize(
        ("start", "expected"),
        [("previous", "loop_1"), ("seed", "seed"), ("sft", "sft")],
    )
    def test_starts_from(self, loop, state, jobs, start, expected):
        loop(start=start).retrain(state, SELECTION)
        assert jobs[0].start.fingerprint == expected

    @pytest.mark.parametrize(
        ("memory", "earlier"),
        [
            ("none", []),
            ("previous", ["selection_1"]),
            ("all", ["selection_1", "selection_0"]),
        ],
    )
    def test_remembers(self, loop, model, state, jobs, memory, earlier):
        """Two loops have selected before this one."""
        begun = state.before(1)
        one = after(begun, model("loop_0"), 1, selected("selection_0"))
        two = after(one, model("loop_1"), 2, selected("selection_1"))
        loop(memory=memory).retrain(two, SELECTION)
        assert names(jobs[0].pairs) == ["selection_2", *earlier, "labeled"]

    def test_has_nothing_to_remember_at_first(self, loop, seed_model, jobs):
        loop(memory="previous").retrain(loop().begin(seed_model), SELECTION)
        assert names(jobs[0].pairs) == ["selection_2", "labeled"]

    @pytest.mark.parametrize(("keep", "human"), [(True, ["labeled"]), (False, [])])
    def test_keeps_the_human_labels(self, loop, state, jobs, keep, human):
        loop(keep_seed_labels=keep, memory="none").retrain(state, SELECTION)
        assert names(jobs[0].pairs) == ["selection_2", *human]

    def test_each_loop_has_a_seed_of_its_own(self, loop, seed_model, state, jobs):
        loop().retrain(loop().begin(seed_model), SELECTION)
        loop().retrain(state, SELECTION)
        assert [job.seed for job in jobs] == [SEED + 1, SEED + 2]

    def test_epochs_and_dropout_are_the_loops_where_given(self, loop, state, jobs):
        loop().retrain(state, SELECTION)
        loop(epochs=1.5, dropout=0.4).retrain(state, SELECTION)
        as_the_seed, own = (job.params for job in jobs)
        assert (own.epochs, own.dropout) == (1.5, 0.4)
        changes = {"epochs": 4.0, "dropout": 0.1}
        assert own.model_copy(update=changes) == as_the_seed == WHOLE

    def test_is_compared_on_the_validation_pairs(self, loop, state, jobs):
        loop().retrain(state, SELECTION)
        assert jobs[0].validation == VALIDATION

    def test_voters_differ_in_their_seeds(self, loop, state, jobs):
        trained = loop(reward={"voters": 3}).retrain(state, SELECTION)
        assert len({job.seed for job in jobs}) == len(jobs) == 3
        assert [job.params.voters for job in jobs] == [1, 1, 1]
        assert names(voters_of(trained)) == ["model-1", "model-2", "model-3"]

    def test_voters_go_on_from_voters(self, loop, model, jobs):
        first = model("voter_0", voters=(model("voter_1"),))
        voting = loop(reward={"voters": 2}, start="previous")
        voting.retrain(voting.begin(first), SELECTION)
        assert names(job.start for job in jobs) == ["voter_0", "voter_1"]

    def test_a_heads_features_are_of_the_human_labels_and_the_pool(
        self, loop, state, jobs
    ):
        """A selection has no features of its own: its pairs are those of the pool."""
        loop(reward={"trainable": "head"}, start="previous").retrain(state, SELECTION)
        backbone, *features, head = jobs
        assert backbone.start.fingerprint == "loop_1"
        assert names(job.pairs for job in features) == ["labeled", "validation", "pool"]
        assert names(head.features) == ["features-2", "features-3", "features-4"]
        assert names(head.pairs) == ["selection_2", "selection_1", "labeled"]

    @pytest.mark.parametrize(
        ("average", "members", "others"),
        [
            ("loops", ["loop_1", "model-1"], ["model-2"]),
            ("voters", ["model-1", "model-2"], ["model-2"]),
        ],
    )
    def test_averages(self, loop, state, jobs, average, members, others):
        averaging = loop(average=average, reward={"voters": 2})
        mean = averaging.retrain(state, SELECTION)
        job = jobs[-1]
        assert names(job.models) == members
        assert (job.validation, job.params.voters) == (VALIDATION, 1)
        assert mean.fingerprint == f"model-{len(jobs)}"
        assert names(mean.voters) == others

    def test_a_stop_trains_nothing(self, loop, state, jobs):
        kept = loop().retrain(state, selected("none", status="stop", rows=0))
        assert (kept, jobs) == (state.model, [])


class TestJudgeProgress:
    def judge(self, loop, state, model, selection=SELECTION):
        return loop.judge_progress(state, model, SCORES, selection, LEFT)

    def test_compares_calibrated_rewards(self, loop, model, state):
        """Rewards 50 times as large are as good, once their temperature divides them.

        M5: ignored, the temperature would make them a collapse.
        """
        margins = np.array([1.0, 2.0, -0.5, 0.3])
        state = state.model_copy(update={"best": model("best", margins=margins)})
        hot = model("hot", Calibration(temperature=50.0), margins=50 * margins)
        record = self.judge(loop(), state, hot).records[-1]
        assert record.difference == pytest.approx(0, abs=1e-12)
        assert record.outcome == "no_gain"

    def test_compares_with_the_best_not_with_the_last(self, loop, model, state):
        best = model("best", margins=(2.0, 2.1))
        state = state.model_copy(update={"best": best, "best_loop": 0})
        record = self.judge(loop(), state, model("new", margins=(1.0, 1.1))).records[-1]
        assert record.difference < 0

    def test_keeps_the_better_one(self, loop, model, state):
        state = state.model_copy(update={"best": model("worse", margins=(0.1, 0.1))})
        better = model("better", margins=(3.0, 3.1))
        new = self.judge(loop(), state, better)
        assert (new.best, new.best_loop, new.model) == (better, 2, better)
        assert (new.remaining, new.stopped, new.without_gain) == (LEFT, False, 0)
        record = new.records[-1]
        assert (record.loop, record.pool, record.selected) == (2, 30, 8)
        assert record.pool_left == 12 / 48
        assert (record.scores, record.selection) == (SCORES, SELECTION)

    def test_a_stop_ends_the_evolution(self, loop, state):
        none = selected("none", status="stop", rows=0)
        new = self.judge(loop(), state, state.model, none)
        record = new.records[-1]
        assert (record.outcome, record.model) == ("no_confident_pairs", None)
        assert new.stopped and new.best == state.best

    def test_the_last_loop_ends_it(self, loop, model, state):
        better = model("better", margins=(3.0, 3.1))
        assert not self.judge(loop(max_loops=3), state, better).stopped
        last = self.judge(loop(max_loops=2), state, better)
        assert last.stopped and last.records[-1].stop_reason == "max_loops"

    def test_patience_counts_loops_without_gain(self, loop, model, state):
        alike = model("alike")
        again = self.judge(loop(patience=2), state, alike)
        assert (again.without_gain, again.stopped) == (1, False)
        assert self.judge(loop(patience=1), state, alike).stopped
        over = self.judge(loop(patience=2), again, model("alike again"))
        assert over.stopped and over.records[-1].outcome == "converged"


class TestStopped:
    """Once the loops have stopped, every step passes its input on."""

    @pytest.fixture
    def over(self, state):
        return state.model_copy(update={"stopped": True})

    def test_nothing_is_done(self, loop, over, jobs):
        assert loop().self_label(over) == NOTHING
        assert loop().select(over, NOTHING) == (NOTHING, NOTHING)
        assert loop().retrain(over, NOTHING) == over.model
        assert jobs == []

    def test_a_pool_of_none_is_left_empty(self, loop, seed_model, model):
        data = DATA.model_copy(update={"unlabeled_pairs": table("pool", 0)})
        begun = replace(loop(), data=data)
        stop = selected("selection", status="stop", rows=0)
        before = begun.begin(seed_model)
        new = begun.judge_progress(before, seed_model, SCORES, stop, table("left", 0))
        assert (new.records[-1].pool_left, new.records[-1].pool) == (0.0, 0)

    def test_and_recorded_as_skipped(self, loop, over):
        nothing = (NOTHING,) * 3
        new = loop().judge_progress(over, over.model, *nothing)
        record = new.records[-1]
        assert (record.loop, record.outcome, record.model) == (2, "skipped", None)
        assert (new.best, new.model, new.remaining) == (
            over.best,
            over.model,
            REMAINING,
        )


class TestRun:
    def test_takes_the_steps_in_turn(self, loop, jobs):
        endless = {"patience": 9, "collapse_standard_errors": 1e9}
        state = loop(max_loops=2, start="previous", **endless).run()
        stages = [job.stage for job in jobs]
        one = ["scores", "selection", "reward_model"]
        assert stages == ["reward_model", *one, *one]
        scored = [job for job in jobs if job.stage == "scores"]
        assert names(job.model for job in scored) == ["model-1", "model-4"]
        assert [job.rows and job.rows.fingerprint for job in scored] == [
            None,
            "remaining-3",
        ]
        assert names(jobs[-1].pairs) == ["selection-6", "selection-3", "labeled"]
        assert (state.loop, state.stopped) == (2, True)

    def test_ends_where_it_stops(self, loop, jobs):
        state = loop(patience=1).run()
        assert (state.loop, state.stopped) == (1, True)
        assert len(jobs) == 4

    def test_learns_from_what_a_selection_was_changed_to(self, loop, jobs):
        loop(max_loops=1).run(lambda kept: selected(f"changed {kept.fingerprint}"))
        assert names(jobs[-1].pairs) == ["changed selection-3", "labeled"]

    def test_without_loops_it_is_the_seed_model(self, loop, jobs):
        state = loop(max_loops=0).run()
        assert (state.loop, state.best.fingerprint, len(jobs)) == (0, "model-1", 1)


class TestCompared:
    def test_is_trained_on_all_human_labels_and_never_kept(self, loop, state, jobs):
        new = loop(reward={"voters": 2}).compared(state)

        trained, refitted = jobs
        assert names(trained.pairs) == ["labeled", "validation"]
        assert (trained.start, trained.seed) == (SFT, SEED)
        assert refitted.held_out == state.seed_model
        record = new.records[-1]
        assert (record.loop, record.status, record.outcome) == (
            2,
            "all labels",
            "control",
        )
        assert record.model.fingerprint == "model-2"
        assert (new.best, new.best_loop) == (state.best, state.best_loop)

    def test_is_left_out_where_it_is_not_wanted(self, loop, state, jobs):
        assert loop(plain=False).compared(state) is state
        assert not jobs


class TestRefit:
    def test_repeats_the_kept_loop_with_all_human_labels(self, loop, state, jobs):
        evolving = loop(start="previous", keep_seed_labels=False)
        new = evolving.refit(state)
        trained, refitted = jobs
        assert names(trained.pairs) == ["selection_1", "labeled", "validation"]
        assert (trained.start.fingerprint, trained.seed) == ("seed", SEED + 1)
        assert (refitted.model.fingerprint, refitted.held_out) == (
            "model-1",
            state.best,
        )
        record = new.records[-1]
        assert (record.loop, record.status, record.outcome) == (2, "refit 1", "refit")
        assert (new.best.fingerprint, new.best_loop) == ("model-2", 2)

    def test_remembers_as_the_kept_loop_did(self, loop, model, state, jobs):
        later = after(state, model("loop_2"), 2, SELECTION)
        loop().refit(later)
        assert names(jobs[0].pairs) == [
            *("selection_2", "selection_1"),
            *("labeled", "validation"),
        ]
        assert jobs[0].seed == SEED + 2

    def test_of_the_seed_model_starts_as_it_did(self, loop, state, jobs):
        kept = state.model_copy(update={"best_loop": 0, "best": state.seed_model})
        loop(start="previous").refit(kept)
        assert (jobs[0].start, jobs[0].seed) == (SFT, SEED)
        assert names(jobs[0].pairs) == ["labeled", "validation"]

    @pytest.mark.parametrize(("average", "voters"), [("none", 1), ("voters", 2)])
    def test_needs_voters_for_their_average_alone(
        self, loop, state, jobs, average, voters
    ):
        loop(average=average, reward={"voters": 2}).refit(state)
        assert sum(job.stage == "reward_model" for job in jobs) >= voters
        trained = [job for job in jobs if hasattr(job, "pairs")]
        assert len(trained) == voters


def test_other_parameters_are_another_loop(loop):
    changed = replace(loop(), max_loops=1)
    assert (changed.max_loops, changed.data) == (1, DATA)
