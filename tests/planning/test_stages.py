"""The plan of a run: the paper's models on the paper's machines, steps, disk."""

from dataclasses import replace
from pathlib import Path

import pytest

from ser_kedro.errors import ModelError
from ser_kedro.models.params import ModelParams
from ser_kedro.planning.devices import Devices
from ser_kedro.planning.shape import ModelShape
from ser_kedro.planning.stages import (
    config_of,
    make_plan,
    reward_tokens_of_a_pass,
    sft_rows_of_a_pass,
)
from ser_kedro.planning.text import render
from ser_kedro.planning.work import Work, sft_rows, steps
from ser_kedro.policy.ppo_params import PpoParams
from ser_kedro.training.params import RewardParams, SftParams
from tests.models import brought, templates
from tests.planning.presets import preset

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
GB = 10**9
LARGE = ModelShape(10**8, 10**8, 1, 1, 0, 0, 0, intermediate=10**5, vocabulary=0)
PAIRS = {
    "sft_pairs": 300,
    "labeled_pairs": 60,
    "unlabeled_pairs": 500,
    "test_pairs": 100,
}


def plan(name, devices, work=None):
    values = preset(name)
    folder = ROOT / "tests" / "configs" / name
    scratch = values["model"].get("scratch")
    return make_plan(
        ModelParams(name=str(folder), scratch=scratch),
        SftParams.model_validate(values["sft"]),
        RewardParams.model_validate(values["reward"]),
        PpoParams.model_validate(values["ppo"]),
        devices,
        loops=3,
        work=work or Work(),
    )


class TestThePaper:
    @pytest.mark.parametrize(
        ("name", "count"),
        [("llama3_8b", 8), ("mistral_7b", 8), ("llama2_13b", 8), ("llama2_70b", 16)],
    )
    def test_fits(self, name, count):
        text = render(plan(name, Devices(count, 80 * GB, zero_stage=3)))
        assert "\nSFT trains it: sft.when=always.\n" in text
        for stage in ("sft", "reward training", "labelling"):
            assert f"\n{stage} fits: " in text

    @pytest.mark.parametrize(
        ("name", "fits"), [("llama3_8b", True), ("llama2_70b", False)]
    )
    def test_ppo_shares_no_weights(self, name, fits):
        text = render(plan(name, Devices(16, 80 * GB, zero_stage=3)))
        assert ("\nppo fits: " in text) is fits
        assert text.count("WARNING: ppo does not fit") == (0 if fits else 1)

    def test_shows_by_how_much(self):
        made = plan("llama2_70b", Devices(16, 80 * GB, zero_stage=3))
        reward = next(s for s in made.stages if s.name == "reward training")
        # The shard of 137 GB, and two gathered layers of 0.86 billion weights.
        assert reward.memory.weights == pytest.approx(137.43e9 / 16 + 3.42e9, rel=1e-3)
        free = (80 * GB - reward.memory.total) / GB
        assert f"reward training fits: {free:.1f} GB free" in render(made)

    def test_70b_does_not_fit_without_sharing_its_weights(self):
        text = render(plan("llama2_70b", Devices(16, 80 * GB, zero_stage=2)))
        assert text.count("WARNING") == 4

    @pytest.mark.parametrize("name", ["qwen3_0_6b", "qwen3_1_7b"])
    def test_small_ones_fit_a_consumer_gpu(self, name):
        assert "WARNING" not in render(plan(name, Devices(1, 24 * GB)))


class TestText:
    def test_warns_and_says_what_to_do(self):
        text = render(plan("llama3_8b", Devices(1, 24 * GB)))
        assert "WARNING: sft does not fit: " in text and "--zero 3" in text

    def test_unknown_memory_gives_no_verdict(self):
        text = render(plan("qwen3_0_6b", Devices(1, None)))
        assert " fits: " not in text and "WARNING" not in text
        assert "--device-memory" in text

    def test_host_memory_is_named(self):
        devices = Devices(8, 80 * GB, zero_stage=3, offload="optimizer")
        assert "On the host, for each device: 12.0 GB" in render(
            plan("llama3_8b", devices)
        )

    def test_says_what_is_not_known(self):
        text = render(plan("test", Devices(1, GB, bf16=False), Work(unknown="no net")))
        assert "\nSFT trains it: a model from scratch knows nothing yet.\n" in text
        assert "not looked up (no net)" in text
        assert "Optimiser steps: unknown" in text and "tables unknown" in text

    def test_says_what_is_done(self):
        work = Work(pairs=PAIRS, table_bytes=96_000, finished={"data_split": 1})
        devices = Devices(1, GB, bf16=False)
        text = render(plan("test", devices, replace(work, missing="sft")))
        assert "already: data_split 1; next is sft." in text
        assert "Optimiser steps: sft 19, seed 32, a loop, at most 280." in text


class TestPassedOn:
    """An instruct model has no stage of SFT, and takes its place on the disk."""

    @pytest.fixture
    def made(self, tmp_path):
        folder = brought.llama(tmp_path, templates.MISTRAL_1)
        values = preset("test")
        work = Work(pairs=PAIRS, table_bytes=96_000)
        return lambda trainable="full", reward=(), **sft: make_plan(
            ModelParams(name=str(folder)),
            SftParams.model_validate({**values["sft"], **sft}),
            RewardParams.model_validate(
                {**values["reward"], "trainable": trainable, **dict(reward)}
            ),
            PpoParams.model_validate(values["ppo"]),
            Devices(1, GB, bf16=False),
            loops=3,
            work=work,
        )

    def test_the_plan_says_why(self, made):
        text = render(made())
        assert "\nSFT is skipped: an instruct model, which closes its" in text
        assert "Optimiser steps: seed 32, a loop, at most 280." in text

    def test_stages_and_disk(self, made):
        passed, tuned = made(), made(when="always")
        names = ["reward training", "labelling", "ppo"]
        assert [stage.name for stage in passed.stages] == names
        assert [stage.name for stage in tuned.stages] == ["sft", *names]
        assert passed.disk.models == tuned.disk.models
        assert passed.disk.checkpoints <= tuned.disk.checkpoints

    def test_the_loss_of_a_language_model_has_logits_and_reads_the_pool(self, made):
        text = {"lm_weight": 0.01, "lm_pool": "text"}
        without, with_it = made(), made(reward=text)
        assert without.stages[0].shape.vocabulary == 0
        assert with_it.stages[0].shape.vocabulary > 0
        assert with_it.stages[1:] == without.stages[1:]
        assert with_it.disk == without.disk
        assert (without.steps["seed"], with_it.steps["seed"]) == (32, 280)

    def test_pretraining_has_steps_of_its_own(self, made):
        text = render(made(reward={"pretrain": "answers", "pretrain_epochs": 2}))
        assert "Optimiser steps: pretraining 126, seed 32, a loop, at most 280." in text

    def test_heads_share_the_file_of_what_is_frozen(self, made):
        first = made(when="always").stages[0].shape
        reward = made().stages[0].shape
        head, tuned = made("head").disk, made("head", when="always").disk
        assert head.models == 4 * (first.parameters + reward.parameters)
        assert (head.count, head.checkpoints) == (5, 0)
        assert tuned.checkpoints == 2 * 12 * first.trainable


class TestWork:
    GIVEN = {"learning_rate": 1, "scheduler": "constant", "max_length": 8}

    def test_steps(self):
        params = SftParams(**self.GIVEN, epochs=3, batch_size=16)
        assert steps(params, 33) == 3 * 3

    def test_both_responses_are_two_rows(self):
        params = SftParams(**self.GIVEN, epochs=1, batch_size=1)
        assert sft_rows(params, 10) == 20
        assert sft_rows(params.model_copy(update={"target": "chosen"}), 10) == 10

    @pytest.mark.parametrize(("micro", "expected"), [(None, (5, 40)), (3, (3, 3))])
    def test_rows_of_a_pass(self, micro, expected):
        params = SftParams(**self.GIVEN, epochs=1, batch_size=40)
        params = params.model_copy(update={"micro_batch_size": micro})
        rows = [sft_rows_of_a_pass(params, Devices(n, None), LARGE) for n in (8, 1)]
        assert tuple(rows) == expected

    @pytest.mark.parametrize(
        ("memory", "rows"),
        # 80 % of it, less 1.8 GB of states; a token takes 1.375 MB, and a row has 8.
        [(4 * GB, 512 // 8), (10 * GB, 4096 // 8)],
    )
    def test_rows_of_a_pass_fill_the_memory(self, memory, rows):
        params = SftParams(**self.GIVEN, epochs=1, batch_size=10**6)
        found = sft_rows_of_a_pass(params, Devices(1, memory), LARGE)
        assert found == rows

    @pytest.mark.parametrize(
        ("budget", "count", "tokens"),
        [
            (10**6, 8, 5 * 16),  # all of a device's share
            (48, 8, 48),  # cut by the budget
            (8, 1, 16),  # a pair stands alone
        ],
    )
    def test_tokens_of_a_pass(self, budget, count, tokens):
        params = RewardParams(
            **self.GIVEN, epochs=1, batch_size=40, max_tokens_per_microbatch=budget
        )
        found = reward_tokens_of_a_pass(params, Devices(count, None), LARGE)
        assert found == tokens

    def test_disk(self):
        work = Work(pairs=PAIRS, table_bytes=96_000)
        made = plan("test", Devices(1, GB, bf16=False), work)
        language, reward = made.stages[0].shape, made.stages[1].shape
        assert made.disk.count == 5
        assert made.disk.models == 4 * (language.parameters + 4 * reward.parameters)
        assert made.disk.checkpoints == 2 * 12 * reward.trainable
        # The split, each pair of the pool selected once, scores of pool and test.
        assert made.disk.tables == 96_000 + 50_000 + 64 * (3 * 500 + 4 * 100)


def test_a_configuration_that_cannot_be_had():
    with pytest.raises(ModelError, match="model=nosuch/model: cannot be loaded"):
        config_of(ModelParams(name="nosuch/model"), 8)
