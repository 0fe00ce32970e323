"""What each step of the loop gives its job, for every switch; nothing is trained."""

import numpy as np
import pytest

from ser_kedro.evolution.params import EvolutionParams
from ser_kedro.evolution.state import LoopRecord, begin
from ser_kedro.launch.json import write_json
from ser_kedro.launch.params import INLINE
from ser_kedro.launch.reference import ModelRef, SelectionRef, TableRef
from ser_kedro.reward import steps, voters
from ser_kedro.reward.calibrate import Calibration
from ser_kedro.reward.params import RewardParams

REWARD = RewardParams(
    learning_rate=1e-2,
    epochs=4,
    batch_size=8,
    scheduler="linear",
    max_length=256,
    dropout=0.1,
)
SEED = 5


def table(name, rows=8):
    return TableRef(path=name, fingerprint=name, rows=rows)


def selected(name, status="1"):
    return SelectionRef(path=name, fingerprint=name, rows=8, status=status)


LABELED, VALIDATION, POOL = table("labeled"), table("validation"), table("pool", 48)
SCORES, REMAINING = table("scores"), table("remaining", 30)
SELECTION = selected("selection_2")


@pytest.fixture
def model(project):
    """Make a model of which only what lies beside the weights is there."""

    def make(name, calibration=Calibration(), margins=(1.0, 1.0)):
        folder = project / name
        calibration.save(folder)
        rewards = {"chosen": list(margins), "rejected": [0.0] * len(margins)}
        write_json(folder / "validation.json", rewards)
        return ModelRef(
            kind="reward_model", path=name, fingerprint=name, metrics={"steps": 4}
        )

    return make


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that were asked for; the outputs' fingerprints are their numbers."""
    asked = []

    def run(job, launcher):
        assert launcher is INLINE
        asked.append(job)
        number = len(asked)
        trained = ModelRef(
            kind="reward_model",
            path=f"model-{number}",
            fingerprint=f"model-{number}",
            metrics={"number": number},
        )
        return {
            "model": trained,
            "features": table(f"features-{number}"),
            "scores": table(f"scores-{number}"),
            "selection": selected(f"selection-{number}"),
            "remaining": table(f"remaining-{number}"),
        }

    for module in (steps, voters):
        monkeypatch.setattr(module, "run", run)
    return asked


@pytest.fixture
def models(model):
    sft = ModelRef(kind="language_model", path="sft", fingerprint="sft")
    return {"sft": sft, "seed": model("seed"), "previous": model("loop_1")}


@pytest.fixture
def state(models):
    """After loop 1: a seed model, and a first loop that took 10 of 48 pairs."""
    first = begin(models["seed"], POOL.rows)
    record = LoopRecord(
        loop=1,
        status="1",
        pool=48,
        selected=10,
        pool_left=38 / 48,
        outcome="improved",
        model=models["previous"],
        scores=SCORES,
        selection=selected("selection_1"),
        remaining=REMAINING,
    )
    return first.model_copy(
        update={
            "best_loop": 1,
            "best": models["previous"],
            "records": (*first.records, record),
            "memory": record.selection,
            "remaining": REMAINING,
        }
    )


@pytest.fixture
def retrain(models, state, jobs):
    def call(reward=None, **changes):
        return steps.retrain(
            model=models["previous"],
            seed_model=models["seed"],
            sft_model=models["sft"],
            selection=SELECTION,
            labeled_pairs=(LABELED,),
            unlabeled_pairs=POOL,
            validation_pairs=VALIDATION,
            state=state,
            params=EvolutionParams(**changes),
            reward=REWARD.model_copy(update=reward or {}),
            seed=SEED,
            launcher=INLINE,
        )

    return call


def names(references):
    return [reference.fingerprint for reference in references]


class TestSeed:
    def test_is_trained_on_the_human_labels(self, models, jobs):
        steps.train_seed(
            sft_model=models["sft"],
            labeled_pairs=(LABELED,),
            validation_pairs=VALIDATION,
            params=REWARD,
            seed=SEED,
            launcher=INLINE,
        )
        (job,) = jobs
        assert (job.start, job.pairs, job.validation) == (
            models["sft"],
            (LABELED,),
            VALIDATION,
        )
        assert (job.seed, job.params) == (SEED, REWARD)


class TestSelfLabel:
    def call(self, models, state, **reward):
        return steps.self_label(
            model=models["previous"],
            unlabeled_pairs=POOL,
            state=state,
            params=REWARD.model_copy(update=reward),
            launcher=INLINE,
        )

    def test_scores_what_is_left_with_the_given_model(self, models, state, jobs):
        scores = self.call(models, state, score_tokens=99)
        (job,) = jobs
        assert (job.model, job.pairs, job.rows) == (
            models["previous"],
            POOL,
            REMAINING,
        )
        assert (job.score_tokens, job.max_length) == (99, 256)
        assert scores.fingerprint == "scores-1"

    def test_asks_every_voter_and_lets_them_vote(self, model, state, jobs):
        calibrations = [Calibration(0.1, 2.0), Calibration(0.2, 3.0)]
        first, second = (
            model(f"voter_{n}", known) for n, known in enumerate(calibrations)
        )
        both = first.model_copy(update={"voters": (second,)})
        scores = self.call({"previous": both}, state)
        *scored, vote = jobs
        assert names(job.model for job in scored) == ["voter_0", "voter_1"]
        assert names(vote.scores) == ["scores-1", "scores-2"]
        assert list(vote.calibrations) == calibrations
        assert scores.fingerprint == "scores-3"


class TestSelect:
    def call(self, model, state, **changes):
        return steps.select_confident(
            scores=SCORES,
            model=model,
            unlabeled_pairs=POOL,
            state=state,
            params=EvolutionParams(**changes),
            launcher=INLINE,
        )

    def test_goes_by_the_calibration_of_the_model(self, model, state, jobs):
        known = Calibration(0.5, 2.0)
        self.call(model("calibrated", known), state)
        (job,) = jobs
        assert (job.calibration, job.scores, job.pairs) == (known, SCORES, POOL)
        assert job.loop == 2

    def test_votes_are_calibrated_already(self, model, state, jobs):
        voter = model("voter", Calibration(0.5, 2.0))
        self.call(voter.model_copy(update={"voters": (model("other"),)}), state)
        assert jobs[0].calibration == Calibration()

    def test_depends_on_the_parameters_of_selection_alone(self, model, state, jobs):
        seed = model("calibrated")
        self.call(seed, state)
        self.call(seed, state, patience=7, refit=True, start="seed", memory="all")
        self.call(seed, state, tau_high=0.9)
        assert jobs[0] == jobs[1] != jobs[2]


class TestRetrain:
    @pytest.mark.parametrize("start", ["previous", "seed", "sft"])
    def test_starts_from(self, retrain, jobs, models, start):
        retrain(start=start)
        assert jobs[0].start == models[start]

    @pytest.mark.parametrize(
        ("memory", "earlier"),
        [("none", []), ("previous", ["selection_1"]), ("all", ["selection_1"])],
    )
    def test_remembers(self, retrain, jobs, memory, earlier):
        retrain(memory=memory)
        assert names(jobs[0].pairs) == ["selection_2", *earlier, "labeled"]

    def test_remembers_all_loops(self, models, jobs, state, retrain):
        """Of the loops before the previous one too, which ``previous`` forgets."""
        second = state.records[1].model_copy(
            update={"loop": 2, "selection": selected("selection_older")}
        )
        records = (state.records[0], second, *state.records[1:])
        state.__dict__["records"] = records
        for memory in ("all", "previous"):
            retrain(memory=memory)
        everything, last = (names(job.pairs) for job in jobs)
        earlier = ["selection_1", "selection_older"]
        assert everything == ["selection_2", *earlier, "labeled"]
        assert last == ["selection_2", "selection_1", "labeled"]

    @pytest.mark.parametrize(("keep", "human"), [(True, ["labeled"]), (False, [])])
    def test_keeps_the_human_labels(self, retrain, jobs, keep, human):
        retrain(keep_seed_labels=keep, memory="none")
        assert names(jobs[0].pairs) == ["selection_2", *human]

    def test_each_loop_has_a_seed_of_its_own(self, retrain, jobs, state):
        retrain()
        assert jobs[0].seed == SEED + 2  # state is that after loop 1

    def test_epochs_and_dropout_are_the_loops_where_given(self, retrain, jobs):
        retrain()
        retrain(epochs=1.5, dropout=0.4)
        as_the_seed, own = (job.params for job in jobs)
        assert (as_the_seed.epochs, as_the_seed.dropout) == (4, 0.1)
        assert (own.epochs, own.dropout) == (1.5, 0.4)
        changes = {"epochs": 4.0, "dropout": 0.1}
        assert own.model_copy(update=changes) == as_the_seed == REWARD

    def test_is_compared_on_the_validation_pairs(self, retrain, jobs):
        retrain()
        assert jobs[0].validation == VALIDATION

    def test_voters_differ_in_their_seeds(self, retrain, jobs):
        trained = retrain(reward={"voters": 3})
        assert len({job.seed for job in jobs}) == len(jobs) == 3
        assert [job.params.voters for job in jobs] == [1, 1, 1]
        assert names(voters.voters_of(trained)) == ["model-1", "model-2", "model-3"]

    def test_a_heads_features_are_of_the_human_labels_and_the_pool(self, retrain, jobs):
        """A selection has no features of its own: its pairs are those of the pool."""
        retrain(reward={"trainable": "head"})
        backbone, *features, head = jobs
        assert backbone.start.fingerprint == "loop_1"
        assert names(job.pairs for job in features) == ["labeled", "pool", "validation"]
        assert names(head.pairs) == ["selection_2", "selection_1", "labeled"]

    @pytest.mark.parametrize(
        ("average", "members"),
        [("loops", ["loop_1", "model-1"]), ("voters", ["model-1", "model-2"])],
    )
    def test_averages(self, retrain, jobs, average, members):
        mean = retrain(average=average, reward={"voters": len(members)})
        job = jobs[-1]
        assert names(job.models) == members
        assert (job.validation, job.params.voters) == (VALIDATION, 1)
        assert mean.fingerprint == f"model-{len(jobs)}"


class TestJudgeProgress:
    def call(self, model, state, **changes):
        return steps.judge_progress(
            model=model,
            scores=SCORES,
            selection=SELECTION,
            remaining=table("left", 12),
            state=state,
            params=EvolutionParams(**changes),
            last_loop=4,
        )

    def test_compares_calibrated_rewards(self, model, state):
        """With its temperature, the new model is as good as the best one; without, not.

        M5: a temperature that is ignored would call it a collapse.
        """
        margins = np.array([1.0, 2.0, -0.5, 0.3])
        state = state.model_copy(update={"best": model("best", margins=margins)})
        hot = model("hot", Calibration(temperature=50.0), margins=50 * margins)
        record = self.call(hot, state).records[-1]
        assert record.difference == pytest.approx(0, abs=1e-12)
        assert record.outcome == "no_gain"

    def test_keeps_the_better_one(self, model, state):
        state = state.model_copy(update={"best": model("worse", margins=(0.1, 0.1))})
        better = model("better", margins=(3.0, 3.1))
        after = self.call(better, state)
        assert (after.best, after.best_loop) == (better, 2)
        assert after.memory == SELECTION and after.remaining.fingerprint == "left"
        record = after.records[-1]
        assert (record.loop, record.pool, record.selected) == (2, 30, 8)
        assert record.pool_left == 12 / 48


class TestRefit:
    def call(self, models, state, jobs, **changes):
        return steps.refit(
            state=state,
            sft_model=models["sft"],
            labeled_pairs=LABELED,
            unlabeled_pairs=POOL,
            validation_pairs=VALIDATION,
            params=EvolutionParams(**{"start": "previous", **changes}),
            reward=REWARD,
            seed=SEED,
            launcher=INLINE,
        )

    def test_repeats_the_kept_loop_with_all_human_labels(self, models, state, jobs):
        after = self.call(models, state, jobs, keep_seed_labels=False)
        trained, refitted = jobs
        human = ["labeled", "validation"]
        assert names(trained.pairs) == ["selection_1", *human]
        assert (trained.start, trained.seed) == (models["seed"], SEED + 1)
        assert refitted.held_out == models["previous"]
        assert after.best.fingerprint == refitted.model.fingerprint[:-1] + "2"
        assert after.records[-1].status == "refit 1"

    def test_of_the_seed_model_starts_as_it_did(self, models, state, jobs):
        kept = state.model_copy(update={"best_loop": 0, "best": models["seed"]})
        self.call(models, kept, jobs)
        assert (jobs[0].start, jobs[0].seed) == (models["sft"], SEED)
        assert names(jobs[0].pairs) == ["labeled", "validation"]
