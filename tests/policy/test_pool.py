"""A pool of prompts alone, answered by a tiny language model."""

from __future__ import annotations

from collections import Counter

import pytest

from ser_kedro.errors import DataError, ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models.params import ModelParams
from ser_kedro.policy import pool as pool_module
from ser_kedro.policy.filled_pool import filled
from ser_kedro.policy.pool_job import AnswerPoolJob
from ser_kedro.policy.pool_params import PoolParams
from ser_kedro.preferences.schema import PROMPTS, UNLABELED
from ser_kedro.store.references import NOTHING
from ser_kedro.store.tables import read_table
from tests.models import brought, templates

COUNT = 7


@pytest.fixture
def prompts(table, train_rows):
    rows = [{"group": row["group"], "prompt": row["prompt"]} for row in train_rows]
    return table("asked", rows[:COUNT], PROMPTS)


def params(**changes):
    small = {"responses": 3, "pairs_per_prompt": 2, "batch_size": 2, "chunk_size": 3}
    lengths = {"max_prompt_length": 64, "max_new_tokens": 8}
    return PoolParams(**{**small, **lengths, **changes})


def answered(model, prompts, seed=0, **changes):
    job = AnswerPoolJob(
        model=model, prompts=prompts, params=params(**changes), seed=seed
    )
    return run(job)


def test_every_prompt_is_answered_as_often_as_asked(sft_model, prompts):
    answers = read_table(answered(sft_model, prompts)["answers"]).to_pylist()

    asked = [row["prompt"] for row in read_table(prompts).to_pylist()]
    assert [row["prompt"] for row in answers] == [p for p in asked for _ in range(3)]
    assert all(0 < row["tokens"] <= 8 for row in answers)


def test_pairs_are_of_different_answers_to_one_prompt(sft_model, prompts):
    outputs = answered(sft_model, prompts)
    given = {}
    for row in read_table(outputs["answers"]).to_pylist():
        given.setdefault(row["group"], set()).add(row["response"])

    table = read_table(outputs["pairs"])
    assert table.schema == UNLABELED
    pairs = table.to_pylist()
    assert max(Counter(pair["group"] for pair in pairs).values()) <= 2
    assert len({pair["pair_id"] for pair in pairs}) == len(pairs) > 0
    for pair in pairs:
        assert pair["response_a"].strip() != pair["response_b"].strip()
        assert {pair["response_a"], pair["response_b"]} <= given[pair["group"]]


def test_the_seed_draws_the_answers(sft_model, prompts):
    drawn = [
        read_table(answered(sft_model, prompts, seed)["answers"])["response"]
        for seed in (0, 1)
    ]

    assert drawn[0] != drawn[1]


def test_a_run_that_is_broken_off_goes_on_and_draws_the_same(
    sft_model, prompts, tmp_path, monkeypatch
):
    arguments = sft_model.location, prompts, params(), 0
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    pool_module.answer_pool(*arguments, whole)
    write = pool_module._Writer.write

    def break_off(self, rows, seed, chunk):
        if chunk == 2:
            raise KeyboardInterrupt
        return write(self, rows, seed, chunk)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(pool_module._Writer, "write", break_off)
        pool_module.answer_pool(*arguments, broken)
    written = []

    def count(self, rows, seed, chunk):
        written.append(chunk)
        return write(self, rows, seed, chunk)

    monkeypatch.setattr(pool_module._Writer, "write", count)
    pool_module.answer_pool(*arguments, broken)

    assert written == [2]
    for name in ("answers.arrow", "pairs.arrow"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert sorted(path.name for path in broken.iterdir()) == [
        *("answers.arrow", "pairs.arrow")
    ]


def test_answers_that_are_all_alike(sft_model, prompts):
    with pytest.raises(DataError, match="none of 7 prompts has two different answers"):
        answered(sft_model, prompts, top_k=1)


class TestFilled:
    def fill(self, pairs, prompts, sft_model, **changes):
        return filled(pairs, prompts, sft_model, params(**changes), 0, INLINE)

    @pytest.fixture
    def none(self, table):
        return table("none", [], PROMPTS)

    def test_pairs_are_taken_as_they_are(self, unlabeled, none, sft_model):
        found = self.fill(unlabeled, none, sft_model)

        assert found == {"pool_pairs": unlabeled, "pool_answers": NOTHING}

    def test_prompts_are_answered(self, none, prompts, sft_model):
        found = self.fill(none, prompts, sft_model)

        assert found["pool_pairs"].rows > 0
        assert found["pool_answers"].rows == 3 * COUNT

    def test_by_another_model_where_one_is_given(self, none, prompts, sft_model):
        """An encoder is no language model, and cannot answer itself."""
        encoder = sft_model.model_copy(update={"kind": "encoder"})

        found = self.fill(none, prompts, encoder, model=str(sft_model.location))

        assert found["pool_answers"].rows == 3 * COUNT
        with pytest.raises(ModelError, match=r"give pool\.model=NAME"):
            self.fill(none, prompts, encoder)

    def test_only_by_a_language_model_that_reads_as_much(
        self, none, prompts, sft_model, tmp_path
    ):
        reward = brought.reward_model(tmp_path / "reward")
        with pytest.raises(ModelError, match="reward: no language model; give one"):
            self.fill(none, prompts, sft_model, model=str(reward))
        with pytest.raises(ModelError, match="pool.* = 264: the model reads 256"):
            self.fill(none, prompts, sft_model, max_new_tokens=200)

    def test_the_date_of_another_models_template_is_fixed(
        self, none, prompts, sft_model, tmp_path
    ):
        other = brought.llama(tmp_path / "other", templates.TODAY)
        model = ModelParams(name=str(other))
        writer = pool_module._Writer(model, prompts, params(max_new_tokens=2))

        text = writer._encoder.open([{"role": "user", "content": "Hi"}]).text

        assert text.startswith("2024-07-26|Hi")

    def test_the_model_is_known_by_its_content(self, prompts, sft_model, tmp_path):
        import shutil

        copy = shutil.copytree(sft_model.location, tmp_path / "copy")
        jobs = [
            AnswerPoolJob(
                model=ModelParams(name=str(place)),
                prompts=prompts,
                params=params(),
                seed=0,
            )
            for place in (sft_model.location, copy)
        ]

        assert jobs[0].fingerprint == jobs[1].fingerprint
