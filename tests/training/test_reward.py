import json
import logging

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from ser_kedro.errors import DataError, ModelError
from ser_kedro.launch.executor import run
from ser_kedro.models.calibration import Calibration, validation_rewards
from ser_kedro.models.encode import Encoder
from ser_kedro.models.fit_calibration import fit
from ser_kedro.models.pack import Packing
from ser_kedro.models.params import LoraParams, ModelParams
from ser_kedro.models.reward_model import load_reward_model
from ser_kedro.models.scorer import Scorer, save_checked
from ser_kedro.preferences.schema import LABELED, PAIRS
from ser_kedro.store import job_store as store
from ser_kedro.store.layout import project_root
from ser_kedro.store.references import ModelRef
from ser_kedro.store.tables import read_table
from ser_kedro.training.batches import PairSteps
from ser_kedro.training.params import RewardParams, SftParams
from ser_kedro.training.reward_job import TrainRewardJob
from ser_kedro.training.reward_trainer import SerRewardTrainer
from ser_kedro.training.sft_job import SftJob

pytestmark = pytest.mark.slow

LORA = LoraParams(r=2, alpha=8)
SEED = 3


def params(**changes):
    return RewardParams(
        **{
            "learning_rate": 1e-2,
            "epochs": 2,
            "batch_size": 8,
            "scheduler": "linear",
            "max_length": 256,
            **changes,
        }
    )


@pytest.fixture
def job(sft_model, labeled, validation):
    """Describe a training; a table may take the place of the labelled pairs."""

    def describe(pairs=None, start=None, seed=SEED, **changes):
        return TrainRewardJob(
            start=start or sft_model,
            pairs=(pairs or labeled,),
            validation=validation,
            params=params(**changes),
            seed=seed,
        )

    return describe


@pytest.fixture
def weights(tmp_path):
    """Do a job outside the store, and return the weights it made."""
    count = iter(range(99))

    def work(job):
        folder = tmp_path / f"work-{next(count)}"
        folder.mkdir()
        job.work(folder)
        return state(load_reward_model(folder / "model", 0)[0])

    return work


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def moved(before, after):
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}


def equal(one, two):
    return not moved(one, two)


def with_columns(table, rows, **columns):
    fields = [pa.field(name, pa.float32()) for name in columns]
    extra = [dict(zip(columns, values)) for values in zip(*columns.values())]
    rows = [row | more for row, more in zip(rows, extra, strict=True)]
    name = "-".join(["extra", *columns])
    return table(name, rows, pa.schema([*PAIRS, *fields]))


def swap(row):
    return row | {"chosen": row["rejected"], "rejected": row["chosen"]}


def test_loss_falls_and_every_parameter_moves(job, sft_model):
    start = state(load_reward_model(sft_model.location, SEED)[0])

    model = run(job(epochs=5))["model"]

    assert model.kind == "reward_model"
    assert model.base_model == "tiny"
    assert model.metrics["steps"] == 20
    assert model.metrics["last_loss"] < model.metrics["first_loss"]
    assert model.metrics["reload_gap"] < 1e-5
    trained = state(load_reward_model(model.location, 0)[0])
    assert moved(start, trained) == set(start)


def test_the_folder_holds_what_a_reward_model_needs_and_no_checkpoints(job):
    model = run(job(save_steps=2))["model"]

    folder = model.location
    assert sorted(p.name for p in folder.parent.iterdir()) == ["model", "result.json"]
    assert {p.name for p in folder.iterdir()} >= {
        "calibration.json",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "validation.json",
    }
    config = json.loads((folder / "config.json").read_text())
    assert config["problem_type"] == "regression"
    assert config["architectures"] == ["LlamaForSequenceClassification"]


@pytest.mark.parametrize("lora", [None, LORA])
def test_the_folder_gives_our_rewards_from_text(
    job, validation, lora, rewards_of_texts
):
    model = run(job(lora=lora))["model"]

    ours = validation_rewards(model)

    theirs = rewards_of_texts(model.location, validation).T
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.ptp(ours) > 1e-3


def test_calibration_and_metrics_are_of_the_validation_rewards(job):
    model = run(job())["model"]

    chosen, rejected = validation_rewards(model)

    calibration = Calibration.of(model)
    assert calibration == fit(chosen, rejected, temperature=True)
    assert model.metrics["offset"] == calibration.offset
    assert model.metrics["validation_pairs"] == 12
    accuracy = float(np.mean(chosen > rejected))
    assert model.metrics["validation_accuracy"] == accuracy


def test_without_fit_temperature_it_stays_one(job):
    model = run(job(fit_temperature=False))["model"]

    assert Calibration.of(model).temperature == 1.0


def test_lora_moves_adapters_and_head_alone(job, sft_model):
    start = state(load_reward_model(sft_model.location, SEED)[0])

    model = run(job(lora=LORA))["model"]

    trained = state(load_reward_model(model.location, 0)[0])
    names = moved(start, trained)
    assert "score.weight" in names
    assert {name for name in names if "proj" in name or name == "score.weight"} == names
    for name in names - {"score.weight"}:
        change = trained[name] - start[name]
        assert torch.linalg.matrix_rank(change, rtol=1e-3) <= LORA.r


def test_the_head_is_trained_and_saved_beside_chosen_adapters(job, sft_model):
    start = state(load_reward_model(sft_model.location, SEED)[0])
    lora = LoraParams(r=2, alpha=8, target_modules=["q_proj"])

    model = run(job(lora=lora))["model"]

    trained = state(load_reward_model(model.location, 0)[0])
    layer = "model.layers.0.self_attn.q_proj.weight"
    assert moved(start, trained) == {layer, "score.weight"}


def test_the_last_layers_and_the_head_move_alone(job, sft_model):
    config = AutoConfig.from_pretrained(sft_model.location, num_hidden_layers=3)
    AutoModelForCausalLM.from_config(config).save_pretrained(sft_model.location)
    start = state(load_reward_model(sft_model.location, SEED)[0])
    lora = LoraParams(r=2, alpha=8, last_layers=2)

    model = run(job(lora=lora, gradient_checkpointing=True))["model"]

    trained = state(load_reward_model(model.location, 0)[0])
    above = {
        name
        for name in start
        if "proj" in name and "layers.0." not in name or name == "score.weight"
    }
    assert moved(start, trained) == above


def test_lora_dropout_is_not_switched_off(job, weights):
    dropout = LoraParams(r=2, alpha=8, dropout=0.5)

    assert not equal(weights(job(lora=LORA)), weights(job(lora=dropout)))


def test_one_job_makes_one_result(job, weights):
    assert equal(weights(job()), weights(job()))


def test_the_seed_draws_head_and_order(job, weights):
    assert not equal(weights(job()), weights(job(seed=SEED + 1)))


def test_rows_of_weight_zero_do_not_influence(job, weights, table, train_rows):
    weight = [1.0, 0.0] * 16
    garbage = [row if w else swap(row) for row, w in zip(train_rows, weight)]

    clean = weights(job(with_columns(table, train_rows[:32], weight=weight)))
    dirty = weights(job(with_columns(table, garbage[:32], weight=weight)))

    for name in clean:
        torch.testing.assert_close(clean[name], dirty[name], atol=1e-5, rtol=0)


def test_without_any_weight_nothing_moves(job, weights, table, train_rows, sft_model):
    start = state(load_reward_model(sft_model.location, SEED)[0])

    pairs = with_columns(table, train_rows[:32], weight=[0.0] * 32)

    assert equal(weights(job(pairs)), start)


def test_weights_and_soft_labels_of_one_are_the_default(
    job, weights, table, train_rows, labeled
):
    ones = [1.0] * 32
    pairs = with_columns(table, train_rows[:32], weight=ones, soft_label=ones)

    assert equal(weights(job(pairs)), weights(job(labeled)))


def test_soft_labels_of_zero_train_on_the_swapped_pairs(
    job, weights, table, train_rows
):
    soft = with_columns(table, train_rows[:32], soft_label=[0.0] * 32)
    swapped = table("swapped", [swap(row) for row in train_rows[:32]], LABELED)

    one = weights(job(soft, epochs=0.25))
    two = weights(job(swapped, epochs=0.25))

    for name in one:
        # Adam's first step is ±lr: where a gradient is but rounding, single weights
        # may go either way.
        assert (one[name] - two[name]).abs().mean() < 1e-5


def test_hinge_is_another_loss(job, weights):
    assert not equal(weights(job()), weights(job(loss="hinge", margin=0.5)))


def test_gradients_accumulate_to_the_same_step(job):
    whole = run(job())["model"]
    parts = run(job(max_tokens_per_microbatch=600))["model"]

    assert parts.metrics["steps"] == whole.metrics["steps"] == 8
    np.testing.assert_allclose(
        validation_rewards(parts), validation_rewards(whole), atol=1e-3
    )


def test_packed_and_plain_rows_train_alike(job):
    packed = run(job())["model"]
    plain = run(job(packing=False))["model"]

    np.testing.assert_allclose(
        validation_rewards(packed), validation_rewards(plain), atol=1e-3
    )


def test_gradient_checkpointing_changes_no_number(job):
    kept = run(job())["model"]
    computed = run(job(gradient_checkpointing=True))["model"]

    np.testing.assert_allclose(
        validation_rewards(computed), validation_rewards(kept), atol=1e-4
    )


def test_several_tables_are_trained_on_together(
    sft_model, labeled, validation, table, train_rows
):
    more = table("more", train_rows[32:40], LABELED)
    job = TrainRewardJob(
        start=sft_model,
        pairs=(more, labeled),
        validation=validation,
        params=params(epochs=1),
        seed=0,
    )

    metrics = run(job)["model"].metrics

    assert metrics["pairs"] == metrics["trained_pairs"] == 40
    assert metrics["steps"] == 5


def test_from_a_reward_model_training_goes_on(job):
    first = run(job())["model"]

    second = run(job(start=first, learning_rate=1e-12, epochs=0.25))["model"]

    np.testing.assert_allclose(
        validation_rewards(second), validation_rewards(first), atol=1e-5
    )


@pytest.mark.parametrize("lora", [None, LoraParams(r=2, alpha=8, dropout=0.2)])
def test_a_rerun_resumes_to_the_same_weights(job, weights, break_off, lora):
    described = job(save_steps=3, lora=lora)
    expected = weights(described)

    steps = break_off(5)
    with pytest.raises(KeyboardInterrupt):
        run(described)

    model = run(described)["model"]

    assert steps == [1, 2, 3, 4, 5, 4, 5, 6, 7, 8]
    assert equal(state(load_reward_model(model.location, 0)[0]), expected)
    assert not (model.location.parent / "trainer").exists()


def test_a_checkpoint_cut_off_in_mid_save_is_passed_by(tmp_path):
    from ser_kedro.training.resume import last_checkpoint

    for step, complete in ((9, True), (10, True), (11, False)):
        folder = tmp_path / "trainer" / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if complete:
            (folder / "trainer_state.json").write_text("{}")

    assert last_checkpoint(tmp_path) == str(tmp_path / "trainer" / "checkpoint-10")
    assert last_checkpoint(tmp_path / "other") is None


def test_a_damaged_checkpoint_is_passed_by(tmp_path, caplog):
    """Whatever file of it is cut; an earlier one is gone on from."""
    from safetensors.torch import save_file

    from ser_kedro.training.resume import last_checkpoint

    def put(step):
        folder = tmp_path / "trainer" / f"checkpoint-{step}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "trainer_state.json").write_text("{}")
        save_file({"w": torch.zeros(100)}, folder / "model.safetensors")
        torch.save({"x": torch.zeros(100)}, folder / "optimizer.pt")
        torch.save({"x": 1}, folder / "rng_state.pth")
        return folder

    put(9)
    for name in [file.name for file in put(10).iterdir()]:
        file = put(10) / name
        assert last_checkpoint(tmp_path) == str(file.parent)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        caplog.clear()
        assert last_checkpoint(tmp_path) == str(put(9))
        assert f"{name} of checkpoint-10 is damaged" in caplog.text


def test_an_encoder_passes_sft_and_trains(
    make_bert, labeled, validation, rewards_of_texts
):
    folder = make_bert()
    shared = params(epochs=1).model_dump(
        include=set(SftParams.model_fields) & set(RewardParams.model_fields)
    )
    sft = SftJob(
        model=ModelParams(name=str(folder)),
        pairs=labeled,
        params=SftParams(**shared),
        seed=0,
    )

    start = run(sft)["model"]
    model = run(
        TrainRewardJob(
            start=start,
            pairs=(labeled,),
            validation=validation,
            params=params(),
            seed=0,
        )
    )["model"]

    assert (start.kind, start.metrics) == ("encoder", {})
    before = state(load_reward_model(start.location, 0)[0])
    after = state(load_reward_model(model.location, 0)[0])
    assert {"classifier.weight", "bert.pooler.dense.weight"} <= moved(before, after)
    ours = validation_rewards(model)
    theirs = rewards_of_texts(model.location, validation).T
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_the_models_own_dropout_is_off(make_bert, labeled, validation, weights):
    """Packed and plain rows would differ, and a rerun would not be the same."""

    def trained(name, share):
        shares = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        folder = make_bert(name, **dict.fromkeys(shares, share))
        start = ModelRef(
            kind="encoder",
            path=str(folder.relative_to(project_root())),
            fingerprint=name,
        )
        return weights(
            TrainRewardJob(
                start=start,
                pairs=(labeled,),
                validation=validation,
                params=params(epochs=1),
                seed=0,
            )
        )

    assert equal(trained("without", 0.0), trained("with", 0.5))


def test_overlong_pairs_are_truncated_and_counted(job, caplog):
    metrics = run(job(max_length=110, epochs=0.25))["model"].metrics

    assert 0 < metrics["overlong_pairs"] < metrics["pairs"] == 32
    assert metrics["trained_pairs"] == 32 - metrics["equal_pairs"]
    assert "pairs above max_length=110 (truncate)" in caplog.text


def test_overlong_pairs_are_dropped_and_counted(job):
    metrics = run(job(max_length=110, overlong="drop", epochs=0.25))["model"].metrics

    assert 0 < metrics["overlong_pairs"]
    assert metrics["trained_pairs"] == 32 - metrics["overlong_pairs"]


@pytest.mark.parametrize("rate", [1e9, 1e30])
def test_a_training_that_diverges_stores_nothing(job, rate):
    diverging = job(learning_rate=rate)
    with pytest.raises(ModelError, match="infinite or NaN|its loss is (nan|inf)"):
        run(diverging)
    assert not store.folder(diverging).exists()


def test_no_pair_left_is_an_error(job):
    with pytest.raises(DataError, match="none of 32 pairs is left.*raise reward.max"):
        run(job(max_length=8, overlong="drop"))


def test_no_validation_pair_is_an_error(job, table):
    described = job().model_copy(update={"validation": table("no", [], LABELED)})

    with pytest.raises(DataError, match="there are no validation pairs"):
        run(described)


@pytest.fixture
def loaded(sft_model, validation):
    model, tokenizer = load_reward_model(sft_model.location, seed=0)
    rows = read_table(validation).to_pydict()
    encoder = Encoder(tokenizer, 256)
    scorer = Scorer(model, encoder, Packing(False, "for the test"), tokens=4096)
    return scorer, encoder.pairs(rows["prompt"], rows["chosen"], rows["rejected"])


def test_save_checked_saves_what_was_trained(loaded, tmp_path):
    scorer, sample = loaded

    assert save_checked(scorer, tmp_path / "m", sample) < 1e-6


def test_save_checked_raises_when_the_head_is_not_saved(
    loaded, sft_model, tmp_path, monkeypatch
):
    scorer, sample = loaded
    headless = AutoModelForCausalLM.from_pretrained(sft_model.location)
    # Adapters without the head among their modules save no more than this.
    monkeypatch.setattr(scorer.model, "save_pretrained", headless.save_pretrained)

    with pytest.raises(ModelError, match="part of it was not saved .with LoRA"):
        save_checked(scorer, tmp_path / "m", sample)


def test_save_checked_raises_when_the_saved_model_is_broken(
    loaded, tmp_path, monkeypatch
):
    scorer, sample = loaded
    broken = type(scorer.model)(scorer.model.config)
    torch.nn.init.constant_(broken.score.weight, float("nan"))
    monkeypatch.setattr(scorer.model, "save_pretrained", broken.save_pretrained)

    with pytest.raises(ModelError, match="part of it was not saved"):
        save_checked(scorer, tmp_path / "m", sample)


def test_save_checked_keeps_a_collapsed_model(loaded, tmp_path):
    scorer, sample = loaded
    torch.nn.init.constant_(scorer.model.score.weight, float("nan"))

    assert save_checked(scorer, tmp_path / "m", sample) == 0.0


def test_a_checkpoint_loads_as_the_catalog_does(job):
    checkpoint = run(job(epochs=0.25))["model"]

    model, tokenizer = checkpoint.load_model(), checkpoint.load_tokenizer()

    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(ModelError, match="model=.*nowhere: cannot be loaded"):
        load_reward_model(tmp_path / "nowhere", 0)


def test_bf16_training_saves_what_it_scores(job):
    model = run(job(precision="bf16", epochs=6))["model"]

    assert model.metrics["reload_gap"] <= 1e-4
    assert model.metrics["last_loss"] < model.metrics["first_loss"]


def test_rows_longer_than_the_model_reads_are_refused(job):
    with pytest.raises(ModelError, match=r"reward.max_length=4096: the model reads"):
        run(job(max_length=4096))


def test_adapters_are_kept_beside_the_model_if_asked(job, sft_model):
    from peft import PeftModel

    merged = run(job(lora=LORA, keep_adapter=True))["model"]

    start, _ = load_reward_model(sft_model.location, SEED)
    adapted = PeftModel.from_pretrained(start, merged.location.with_name("adapter"))
    again = state(adapted.merge_and_unload())
    expected = state(load_reward_model(merged.location, 0)[0])
    assert again.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(again[name], expected[name])


@pytest.fixture
def responses_that_see_each_other(monkeypatch):
    made = PairSteps._micro_batch

    def broken(self, *arguments):
        batch = made(self, *arguments)
        if "segments" in batch:
            batch["segments"] = batch["segments"].clamp(max=0)
        return batch

    monkeypatch.setattr(PairSteps, "_micro_batch", broken)


@pytest.mark.parametrize(
    "changes", [{"lora": LoraParams(r=2, alpha=8, dropout=0.3)}, {"precision": "bf16"}]
)
def test_packing_that_agrees_is_kept_and_the_numbers_are_logged(
    job, weights, caplog, changes
):
    with caplog.at_level(logging.DEBUG, logger="ser_kedro"):
        weights(job(epochs=1, **changes))

    assert "Packed training agrees with plain training: gradients" in caplog.text
    assert "Packing disabled" not in caplog.text


def test_without_agreement_training_is_plain(
    job, weights, caplog, responses_that_see_each_other
):
    broken = weights(job(epochs=1))

    assert "Packing disabled: packed and plain gradients differ" in caplog.text
    assert equal(broken, weights(job(epochs=1, packing=False)))


def test_a_comparison_that_runs_out_of_memory_is_left_out(
    job, weights, caplog, monkeypatch
):
    expected = weights(job(epochs=1))

    def none(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("ser_kedro.training.packing_check._gradient", none)

    assert equal(weights(job(epochs=1)), expected)
    assert "not compared with plain: out of memory" in caplog.text


@pytest.fixture
def little_memory(monkeypatch):
    """A forward pass of more than so many tokens runs out of memory."""
    most, seen, compute = [10**9], [], SerRewardTrainer.compute_loss

    def limited(self, model, inputs, *args, **kwargs):
        loss = compute(self, model, inputs, *args, **kwargs)
        seen.append(inputs["input_ids"].numel())
        if self.state.global_step and seen[-1] > most[0]:
            loss.sum().backward()  # gradients of a pass that did not end
            raise torch.OutOfMemoryError("CUDA out of memory")
        return loss

    monkeypatch.setattr(SerRewardTrainer, "compute_loss", limited)
    return most


def test_out_of_memory_halves_the_pass_and_goes_on(job, weights, little_memory, caplog):
    whole = weights(job(epochs=1, packing=False))
    little_memory[0] = 700

    halved = weights(job(epochs=1, packing=False))

    assert "Out of memory: going on with passes of" in caplog.text
    for name, expected in whole.items():
        torch.testing.assert_close(halved[name], expected, atol=2e-4, rtol=0)


def test_out_of_memory_with_a_single_pair_is_one_line(job, weights, little_memory):
    little_memory[0] = 1

    with pytest.raises(ModelError, match="reward training: out of memory; lower"):
        weights(job(epochs=1))
