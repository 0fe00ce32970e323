"""What each node gives its job: nothing runs, the jobs are recorded."""

from types import SimpleNamespace

import pytest

from ser_kedro.acquisition import requests
from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.errors import ParameterError
from ser_kedro.evaluation import consistency
from ser_kedro.evaluation.benchmarks import results as benchmarks
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.evaluation.test_scores import TestScores
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models import rendering, scoring
from ser_kedro.models.calibration import Calibration
from ser_kedro.models.params import ModelParams
from ser_kedro.pipelines.acquisition import nodes as acquisition
from ser_kedro.pipelines.data_split import nodes as data_split
from ser_kedro.pipelines.evaluation import nodes as evaluation
from ser_kedro.pipelines.policy_evaluation import nodes as policy_evaluation
from ser_kedro.pipelines.ppo import nodes as ppo
from ser_kedro.pipelines.seed_rm import nodes as seed_rm
from ser_kedro.pipelines.self_evolve import nodes as self_evolve
from ser_kedro.pipelines.sft import nodes as sft
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.policy_evaluation.params import PolicyEvaluationParams
from ser_kedro.preferences.demo_world.gold import GoldReward
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.preferences.split import SplitParams
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.state import EvolutionData, LoopRecord, begin
from ser_kedro.store.references import ModelRef, TableRef
from ser_kedro.training import reward_model
from ser_kedro.training.params import RewardParams, SftParams

LAUNCHER = LauncherParams(name="mine")
SEED = 7
COMMON = {"learning_rate": 1e-3, "epochs": 1, "batch_size": 4, "scheduler": "linear"}
REWARD = RewardParams(**COMMON, max_length=123, score_tokens=456)
SFT = SftParams(**COMMON, max_length=99)


def model(name, kind="reward_model"):
    return ModelRef(kind=kind, path=name, fingerprint=name)


def table(name, rows=8):
    return TableRef(path=name, fingerprint=name, rows=rows)


RENDERED = {
    "prompts": {},
    "system_turns_merged": 0,
    "repeated_turns_merged": 0,
    "answers_appended": 0,
    "refused": {},
}
SFT_MODEL = model("sft", "language_model")
DATA = EvolutionData(
    labeled_pairs=table("labeled"),
    validation_pairs=table("validation"),
    unlabeled_pairs=table("pool"),
    sft_model=SFT_MODEL,
)


@pytest.fixture
def jobs(monkeypatch):
    """The jobs that were asked for."""
    asked = []

    class Outputs(dict):
        def __missing__(self, name):
            return table(f"{name}-{len(asked)}")

    def run(job, launcher):
        assert launcher is LAUNCHER
        asked.append(job)
        made = {"model": model("made"), "data_report": SimpleNamespace(read=dict)}
        made["template_report"] = SimpleNamespace(read=lambda: RENDERED)
        return Outputs(made)

    modules = (data_split, sft, ppo, policy_evaluation)
    others = (rendering, scoring, reward_model, consistency, benchmarks, requests)
    for module in (*modules, *others):
        monkeypatch.setattr(module, "run", run)
    return asked


@pytest.fixture
def history():
    """Three loops, of which the second is kept."""
    state = begin(DATA, model("seed"))
    records = [
        LoopRecord(
            loop=loop,
            status="1",
            pool=8,
            selected=2,
            pool_left=0.5,
            outcome="improved",
            model=model(f"loop_{loop}"),
        )
        for loop in (1, 2, 3)
    ]
    kept = {"best_loop": 2, "best": model("loop_2")}
    return state.model_copy(update={**kept, "records": (*state.records, *records)})


def test_split(jobs):
    source = PreferenceSource(format="demo_world", world=WorldParams(pairs=9))
    params = SplitParams(labeled_share=0.2)
    made = data_split.split(source, params, SEED, LAUNCHER)
    (job,) = jobs
    assert (job.source, job.params, job.seed) == (source, params, SEED)
    assert made["gold_reward"] == GoldReward(world=source.world)


def test_the_gold_reward_of_peoples_data_is_unknown(jobs):
    source = PreferenceSource(format="pairs", path="pairs.jsonl")
    made = data_split.split(source, SplitParams(), SEED, LAUNCHER)
    assert made["gold_reward"].world is None


@pytest.mark.parametrize(("pool", "given"), [("none", None), ("text", "pool")])
def test_sft(jobs, pool, given):
    params = SFT.model_copy(update={"pool": pool})
    named = ModelParams(name="tiny")
    made = sft.fine_tune(
        table("sft_pairs"), table("pool"), {}, named, params, SEED, LAUNCHER
    )
    (job,) = jobs
    assert (job.model, job.pairs, job.params) == (named, table("sft_pairs"), params)
    assert (job.pool and job.pool.fingerprint, job.seed) == (given, SEED)
    assert made == model("made")


def test_all_data_are_rendered_before_training(jobs):
    names = ("sft_pairs", "labeled_pairs", "validation_pairs")
    others = ("unlabeled_pairs", "pool_prompts", "test_pairs", "ppo_prompts")
    named = ModelParams(name="tiny")
    sft.check_rendering(*map(table, (*names, *others)), named, LAUNCHER)
    (job,) = jobs
    assert job.parts == {name: table(name) for name in (*names, *others)}
    assert (job.model, job.vocabulary) == (named, table("sft_pairs"))


def test_a_ready_reward_model_is_calibrated_and_not_trained(jobs):
    made = seed_rm.train_seed(
        model("ready"),
        table("labeled"),
        table("validation"),
        table("pool"),
        REWARD,
        EvolutionParams(),
        SEED,
        LAUNCHER,
    )
    score, calibrate = jobs
    assert (score.model, score.pairs) == (model("ready"), table("validation"))
    assert (score.max_length, score.score_tokens) == (123, 456)
    assert (calibrate.model, calibrate.scores) == (model("ready"), table("scores-1"))
    assert calibrate.temperature is REWARD.fit_temperature
    assert made == model("made")


def test_seed_model(jobs):
    seed_rm.train_seed(
        SFT_MODEL,
        table("labeled"),
        table("validation"),
        table("pool"),
        REWARD,
        EvolutionParams(),
        SEED,
        LAUNCHER,
    )
    (job,) = jobs
    assert (job.start, job.pairs) == (SFT_MODEL, (table("labeled"),))
    assert job.pool is None  # nothing asks for it
    assert (job.validation, job.params, job.seed) == (
        table("validation"),
        REWARD.model_copy(update={"views": ()}),  # which change no training
        SEED,
    )


def test_evolution_begins_with_the_seed_model_and_its_data():
    state = self_evolve.begin(
        seed_reward_model=model("seed"),
        sft_model=SFT_MODEL,
        labeled_pairs=DATA.labeled_pairs,
        validation_pairs=DATA.validation_pairs,
        pool_pairs=DATA.unlabeled_pairs,
    )
    assert (state.data, state.best, state.model) == (
        DATA,
        model("seed"),
        model("seed"),
    )


def test_evolution_ends_with_the_kept_model(history):
    params = EvolutionParams(plain=False)
    kept, same = self_evolve.finish(history, params, REWARD, SEED, LAUNCHER)
    assert kept == model("loop_2")
    assert same == history


def test_every_loops_model_scores_the_test_pairs(jobs, history):
    pairs = table("test")
    made = evaluation.score_test(history, pairs, REWARD, LAUNCHER)
    assert [job.model.path for job in jobs] == ["seed", "loop_1", "loop_2", "loop_3"]
    assert {job.pairs.path for job in jobs} == {"test"}
    assert {(job.max_length, job.score_tokens) for job in jobs} == {(123, 456)}
    assert made == TestScores({n: table(f"scores-{n + 1}") for n in range(4)})


def test_further_tests_are_of_the_kept_model_beside_the_seed(
    jobs, history, monkeypatch, tmp_path
):
    """N11: the seed in the place of the kept model went unnoticed."""
    (tmp_path / "b.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}')
    monkeypatch.setattr(consistency, "read_table", lambda _: None)
    monkeypatch.setattr(consistency, "consistency", lambda _: [])
    monkeypatch.setattr(benchmarks, "scored_items", lambda _: [])
    monkeypatch.setattr(benchmarks, "read_table", lambda _: None)
    monkeypatch.setattr(benchmarks, "figures", lambda *_: {})
    test = {"name": "b", "format": "pairs", "path": str(tmp_path / "b.jsonl")}
    params = EvaluationParams(benchmarks=(test,), consistency_pairs=5)
    evaluation.score_benchmarks(history, table("test"), REWARD, params, LAUNCHER)
    stages = [(job.stage, job.model.path) for job in jobs]
    assert stages == [
        ("consistency", "loop_2"),
        ("benchmark_scores", "seed"),
        ("benchmark_scores", "loop_2"),
    ]
    assert {job.max_length for job in jobs} == {123}
    assert (jobs[0].pairs, jobs[0].count) == (table("test"), 5)


@pytest.mark.parametrize("world", [None, WorldParams(pairs=9)])
def test_policy(jobs, world):
    params = PpoParams(kl_target=3.0)
    ppo.train_policy(
        sft_model=SFT_MODEL,
        reward_model=model("kept"),
        ppo_prompts=table("prompts"),
        gold_reward=GoldReward(world=world),
        ppo=params,
        reward=REWARD,
        seed=SEED,
        launcher=LAUNCHER,
    )
    (job,) = jobs
    assert (job.sft_model, job.reward_model) == (SFT_MODEL, model("kept"))
    assert (job.prompts, job.params, job.seed) == (table("prompts"), params, SEED)
    # N17: the reward model must be applied as it was trained.
    assert job.scoring == REWARD.scoring.whole
    assert (job.scoring.max_length, job.gold) == (123, world)


def test_answers_of_the_policy_and_of_its_start(jobs):
    asked = PolicyEvaluationParams(prompts=5, batch_size=3)
    sampling = PpoParams()
    ours, others = policy_evaluation.answer(
        model("policy"), SFT_MODEL, table("test"), sampling, asked, SEED, LAUNCHER
    )
    assert [job.model for job in jobs] == [model("policy"), SFT_MODEL]
    for job in jobs:
        assert (job.start, job.prompts) == (SFT_MODEL, table("test"))
        assert (job.count, job.batch_size, job.params) == (5, 3, sampling)
        assert job.seed == SEED
    assert (ours.path, others.path) == ("answers-1", "answers-2")


def test_the_kept_model_and_its_voters_choose_what_people_label(jobs, monkeypatch):
    monkeypatch.setattr(Calibration, "of", lambda model: Calibration(0.0, 2.0))
    kept = model("kept").model_copy(update={"voters": (model("voter"),)})
    params = AcquisitionParams(by="disagreement", count=3)
    made = acquisition.request_labels(
        *(table(n) for n in ("pool", "labels", "held")),
        *(kept, params, REWARD, SEED, LAUNCHER),
    )
    *score, ask = jobs
    assert [(job.model.path, job.pairs.path) for job in score] == [
        ("kept", "pool"),
        ("voter", "pool"),
    ]
    assert {(job.max_length, job.score_tokens) for job in score} == {(123, 456)}
    assert (ask.pairs, ask.params, ask.seed) == (table("pool"), params, SEED)
    assert ask.labelled == ()
    assert ask.scores == (table("scores-1"), table("scores-2"))
    assert ask.calibrations == (Calibration(0.0, 2.0),) * 2
    assert made == table("label_requests-3")


def test_what_has_a_label_counts_where_texts_are_to_differ(jobs, monkeypatch):
    monkeypatch.setattr(Calibration, "of", lambda model: Calibration(0.0, 2.0))
    params = AcquisitionParams(spread="k_center")
    acquisition.request_labels(
        *(table(n) for n in ("pool", "labels", "held")),
        *(model("kept"), params, REWARD, SEED, LAUNCHER),
    )
    assert jobs[-1].labelled == (table("labels"), table("held"))


def test_nothing_is_scored_for_voters_that_there_are_not(jobs):
    params = AcquisitionParams(by="disagreement")
    with pytest.raises(ParameterError, match="by=disagreement"):
        acquisition.request_labels(
            *(table(n) for n in ("pool", "labels", "held")),
            *(model("kept"), params, REWARD, SEED, LAUNCHER),
        )
    assert jobs == []
