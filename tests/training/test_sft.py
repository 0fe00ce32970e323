import pytest
import torch
from transformers import AutoModelForCausalLM
from trl import SFTTrainer

from ser_kedro.errors import DataError, ModelError
from ser_kedro.launch.executor import run
from ser_kedro.models.params import LoraParams, ModelParams, ScratchParams
from ser_kedro.models.scratch import EOS, PAD, random_model, train_tokenizer
from ser_kedro.preferences.schema import LABELED
from ser_kedro.store import job_store as store
from ser_kedro.training.params import SftParams
from ser_kedro.training.sft_job import SftJob
from tests.models import brought

pytestmark = pytest.mark.slow

SCRATCH = ScratchParams(
    vocab_size=400, hidden_size=16, intermediate_size=32, layers=1, heads=2
)


@pytest.fixture
def pairs(table, train_rows):
    return table("sft_pairs", train_rows[:16], LABELED)


@pytest.fixture
def job(pairs):
    def describe(model=None, seed=0, **changes):
        params = {
            "learning_rate": 1e-2,
            "epochs": 1,
            "batch_size": 8,
            "scheduler": "cosine",
            "max_length": 256,
        }
        return SftJob(
            model=model or ModelParams(name="tiny", scratch=SCRATCH),
            pairs=pairs,
            params=SftParams(**{**params, **changes}),
            seed=seed,
        )

    return describe


@pytest.fixture
def batches(monkeypatch):
    """What the trainer really computes its loss on."""
    seen, compute_loss = [], SFTTrainer.compute_loss

    def spy(self, model, inputs, *args, **kwargs):
        seen.extend(zip(inputs["input_ids"].tolist(), inputs["labels"].tolist()))
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", spy)
    return seen


def targets(batches, tokenizer):
    return sorted(
        tokenizer.decode([label for label in labels if label != -100])
        for _, labels in batches
    )


def state(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def test_chosen_trains_on_the_preferred_responses_alone(job, batches, train_rows):
    model = run(job(target="chosen"))["model"]

    tokenizer = model.load_tokenizer()
    assert targets(batches, tokenizer) == sorted(
        f" {row['chosen']}{EOS}" for row in train_rows[:16]
    )
    assert model.metrics["steps"] == 2


def test_both_trains_on_both_responses(job, batches, train_rows):
    model = run(job(target="both"))["model"]

    tokenizer = model.load_tokenizer()
    assert targets(batches, tokenizer) == sorted(
        f" {row[name]}{EOS}"
        for row in train_rows[:16]
        for name in ("chosen", "rejected")
    )
    assert model.metrics["steps"] == 4


def test_both_does_not_see_which_response_was_preferred(job, table, train_rows):
    """Not even in the order of the rows, which is the order of the steps."""
    swapped = [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]}
        for row in train_rows[:16]
    ]
    mirrored = job(target="both").model_copy(
        update={"pairs": table("mirrored", swapped, LABELED)}
    )

    one, two = (run(each)["model"] for each in (job(target="both"), mirrored))

    assert one != two
    states = [state(model.load_model()) for model in (one, two)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_prompts_and_padding_bear_no_loss(job, batches):
    model = run(job())["model"]

    tokenizer = model.load_tokenizer()
    for ids, labels in batches:
        row = [i for i in ids if i != tokenizer.pad_token_id]
        start = next(n for n, label in enumerate(labels) if label != -100)
        assert tokenizer.decode(row[:start]).endswith("\n\nAnswer:")
        assert labels[start : len(row)] == row[start:]
        assert set(labels[:start] + labels[len(row) :]) <= {-100}


def test_loss_falls_and_every_parameter_moves(job, pairs):
    described = job(epochs=4)

    model = run(described)["model"]

    assert model.kind == "language_model"
    assert model.metrics["last_loss"] < model.metrics["first_loss"]
    tokenizer = model.load_tokenizer()
    before = state(random_model(SCRATCH, tokenizer, 256, seed=0))
    after = state(model.load_model())
    assert before.keys() == after.keys()
    assert all(not torch.equal(before[name], after[name]) for name in before)


def test_the_folder_holds_model_and_tokenizer_alone(job):
    model = run(job(save_steps=1))["model"]

    names = {path.name for path in model.location.parent.iterdir()}
    assert names == {"model", "result.json"}
    tokenizer = model.load_tokenizer()
    config = model.load_model().config
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id
    assert config.eos_token_id == tokenizer.eos_token_id


def test_the_seed_draws_the_weights(job):
    one, two = (state(run(job(seed=seed))["model"].load_model()) for seed in (0, 1))

    assert not any(torch.equal(one[name], two[name]) for name in one)


def test_a_folder_is_fine_tuned_with_adapters_and_merged(job):
    start = run(job())["model"]
    before = state(start.load_model())

    lora = LoraParams(r=2, alpha=4)
    tuned = run(job(ModelParams(name=str(start.location)), lora=lora))["model"]

    after = state(tuned.load_model())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("proj" in name for name in moved)
    assert before.keys() == after.keys()


def test_only_the_last_layer_is_fine_tuned(job, tmp_path):
    folder = brought.llama(tmp_path / "deep", num_hidden_layers=2)
    before = state(AutoModelForCausalLM.from_pretrained(folder))

    lora = LoraParams(r=2, alpha=4, last_layers=1)
    model = ModelParams(name=str(folder))
    tuned = run(job(model, lora=lora, gradient_checkpointing=True))["model"]

    after = state(tuned.load_model())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    matrices = {name for name in before if "layers.1" in name and "proj" in name}
    assert moved == matrices


def test_overlong_rows_are_counted(job):
    metrics = run(job(max_length=110, overlong="drop"))["model"].metrics

    assert 0 < metrics["overlong_pairs"] < 16
    assert metrics["trained_pairs"] == 16 - metrics["overlong_pairs"]


def test_a_training_that_diverges_stores_nothing(job):
    diverging = job(learning_rate=1e38)
    with pytest.raises(
        ModelError, match="^sft: the training diverged, its loss is nan"
    ):
        run(diverging)
    assert not store.folder(diverging).exists()


def test_no_row_left_is_an_error(job):
    with pytest.raises(DataError, match="sft: none of 16 pairs is left.*raise sft.max"):
        run(job(max_length=48, overlong="drop"))


def test_a_rerun_resumes_to_the_same_weights(job, break_off, tmp_path):
    described = job(save_steps=2)
    whole = tmp_path / "whole"
    whole.mkdir()
    described.work(whole)

    steps = break_off(3)
    with pytest.raises(KeyboardInterrupt):
        run(described)

    model = run(described)["model"]

    assert steps == [1, 2, 3, 3, 4]
    name = "model.safetensors"
    assert (model.location / name).read_bytes() == (whole / "model" / name).read_bytes()


def test_the_tokenizer_spells_any_text_and_keeps_pad_from_eos():
    tokenizer = train_tokenizer(iter(["a good answer"]), 64)

    text = "Ünïcode 漢字 🙂\n\n\ttabs"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, EOS)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


@pytest.fixture
def little_memory(monkeypatch):
    """A forward pass of more rows than this runs out of memory."""
    most, compute_loss = [], SFTTrainer.compute_loss

    def limited(self, model, inputs, *args, **kwargs):
        if len(inputs["input_ids"]) > most[0]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SFTTrainer, "compute_loss", limited)
    return most


def test_out_of_memory_starts_anew_with_half_the_rows(job, little_memory, caplog):
    little_memory.append(8)
    whole = run(job())["model"]
    little_memory[0] = 3

    halved = run(job(seed=0, epochs=1.0, save_steps=7))["model"]

    lines = [r.message for r in caplog.records if "out of memory" in r.message]
    assert [line.split("with ")[1] for line in lines] == [
        "4 rows a forward pass",
        "2 rows a forward pass",
    ]
    assert halved.metrics["last_loss"] == pytest.approx(whole.metrics["last_loss"])


def test_out_of_memory_with_one_row_is_one_line(job, little_memory):
    little_memory.append(0)

    with pytest.raises(ModelError, match="sft: out of memory; lower sft.micro_batch"):
        run(job())
