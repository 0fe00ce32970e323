import logging

import pytest
import torch
from transformers import BertConfig, GPT2Config, LlamaConfig

from ser_kedro.models import precision, speed_trial
from ser_kedro.models.params import LoraParams
from ser_kedro.models.precision import uses_bf16
from ser_kedro.models.shortened import shortened
from ser_kedro.models.speed_trial import Use, seconds_a_token

TINY = LlamaConfig(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=7,
    num_attention_heads=4,
    pad_token_id=0,
)
SCORING = Use("scoring", 64)
LORA = LoraParams(r=2, alpha=4)


@pytest.fixture
def times(monkeypatch, project):
    """What the trial finds, and how often it was made; no model is too small."""
    found, asked = {"fp32": 1.0, "bf16": 0.5}, []

    def trial(config, use, *, bf16):
        asked.append((use, bf16))
        return found["bf16" if bf16 else "fp32"]

    monkeypatch.setattr(precision, "seconds_a_token", trial)
    monkeypatch.setattr(precision, "SMALL", 0)
    found["asked"] = asked
    return found


class TestUsesBf16:
    @pytest.mark.parametrize(("bf16", "expected"), [(0.79, True), (0.81, False)])
    def test_bf16_must_be_clearly_faster(self, times, bf16, expected, caplog):
        times["bf16"] = bf16

        with caplog.at_level(logging.INFO):
            assert uses_bf16("auto", TINY, SCORING) is expected

        name = "bf16" if expected else "fp32"
        assert f"precision: auto is {name} for scoring: 1000.00 ms" in caplog.text

    def test_what_was_found_stays(self, times, caplog):
        uses_bf16("auto", TINY, SCORING)
        times["bf16"] = 2.0

        with caplog.at_level(logging.DEBUG, logger="ser_kedro"):
            assert uses_bf16("auto", TINY, SCORING)

        assert len(times["asked"]) == 2
        assert "data/store/precision/" in caplog.text

    def test_each_use_has_a_trial_of_its_own(self, times):
        uses = [SCORING, Use("reward", 64), Use("reward", 64, LORA), Use("sft", 64)]
        for use in uses:
            uses_bf16("auto", TINY, use)

        assert [use for use, bf16 in times["asked"] if bf16] == uses

    @pytest.mark.parametrize(("said", "expected"), [("bf16", True), ("fp32", False)])
    def test_what_is_said_is_not_tried(self, times, said, expected):
        assert uses_bf16(said, TINY, SCORING) is expected
        assert not times["asked"]

    def test_a_small_model_stays_in_fp32_untried(self, times, monkeypatch):
        monkeypatch.setattr(precision, "SMALL", 50_000_000)

        assert not uses_bf16("auto", TINY, SCORING)
        assert not times["asked"]

    def test_ranks_of_a_launch_do_not_try(self, times, monkeypatch):
        monkeypatch.setenv("SER_KEDRO_LAUNCH", "1")

        assert not uses_bf16("auto", TINY, SCORING)
        assert not times["asked"]


class TestSecondsAToken:
    @pytest.fixture
    def layers(self, monkeypatch):
        """A layer takes 3 s in training and 1 s in reading, all else 10 s."""

        def time(config, use, bf16, layers):
            return 10.0 + layers * (1.0 if use.task == "scoring" else 3.0)

        monkeypatch.setattr(speed_trial, "_time", time)

    def test_all_layers_take_as_long(self, layers):
        assert seconds_a_token(TINY, Use("reward", 64), bf16=False) == 10 + 7 * 3

    @pytest.mark.parametrize(
        ("last", "seconds"), [(2, 10 + 2 * 3 + 5), (7, 10 + 7 * 3)]
    )
    def test_layers_below_the_adapters_are_only_read(self, layers, last, seconds):
        lora = LORA.model_copy(update={"last_layers": last})

        assert seconds_a_token(TINY, Use("reward", 64, lora), bf16=False) == seconds

    @pytest.mark.parametrize("bf16", [False, True])
    @pytest.mark.parametrize(
        "use",
        [
            SCORING,
            Use("reward", 64, LORA),
            Use("reward", 64, checkpointing=True),
            Use("sft", 16),
            Use("generation", 64),
        ],
    )
    def test_a_real_trial(self, use, bf16):
        torch.manual_seed(1)
        expected = torch.rand(2)
        torch.manual_seed(1)

        assert 0 < seconds_a_token(TINY, use, bf16=bf16) < 1
        assert torch.equal(torch.rand(2), expected)

    def test_an_encoder(self):
        config = BertConfig(
            vocab_size=96,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
        )
        assert seconds_a_token(config, SCORING, bf16=False) > 0


def test_a_shortened_configuration_leaves_the_given_one():
    config = GPT2Config(n_layer=5)

    assert shortened(config, 2).n_layer == 2
    assert config.n_layer == 5
