"""A ready reward model is loop 0, and the loops go on from it; mistakes come first."""

import json

import pytest

from tests.models import brought, templates

pytestmark = pytest.mark.end_to_end

RUN = ("run", "--pipelines", "self_evolve", "--env", "test", "--params")
SMALL = "sft.max_length=256,reward.max_length=256,reward.epochs=1,reward.save_steps=99"
LOOPS = {"SER_KEDRO_MAX_LOOPS": "1"}


def document(project, place):
    return json.loads(max(project.glob(f"data/test/{place}/*/*.json")).read_text())


def test_a_ready_reward_model_through_the_whole_run(fresh, kedro):
    brought.reward_model(fresh / "ready", templates.GEMMA)
    params = f"model=ready,{SMALL},reward.learning_rate=0.001"
    done = kedro(*RUN, params, cwd=fresh, env=LOOPS)
    assert done.returncode == 0, done.stderr
    assert "SFT is skipped: a reward model is kept with its head" in done.stderr
    report = document(fresh, "08_reporting/template_report.json")
    assert (report["template"], report["refused"]) == ("chat", {})
    seed = document(fresh, "06_models/seed_reward_model.json")
    assert (seed["kind"], seed["base_model"]) == ("reward_model", "ready")
    ready = (fresh / "ready" / "model.safetensors").read_bytes()
    assert (fresh / seed["path"] / "model.safetensors").read_bytes() == ready
    history = document(fresh, "07_model_output/loop_history.json")
    assert history["records"][0]["model"]["fingerprint"] == seed["fingerprint"]
    assert "| 0 " in done.stdout  # its accuracy on the test pairs, as loop 0

    # What cannot be used is refused before anything is read.
    brought.llama(fresh / "large", more=["<|tool|>"])
    brought.roberta(fresh / "roberta", positions=66)
    preset = "extends: pretrained\nmodel: {name: ready, chat_template: no.jinja}\n"
    (fresh / "conf/base/presets/model/mine.yml").write_text(preset)
    for params, said in (
        ("model=mine", "model.chat_template=no.jinja: cannot be read"),
        ("model=large", "tokens that the model does not know"),
        ("model=roberta,reward.max_length=65", "the model reads 64 tokens at most"),
    ):
        done = kedro(*RUN, params, cwd=fresh)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr and "data_split" not in done.stderr
        *_, line = done.stderr.splitlines()
        assert line.startswith("Error: ") and said in line

    # What the template refuses in any case, before anything is trained.
    brought.llama(fresh / "strict", "{{ raise_exception('not so') }}")
    done = kedro(*RUN, f"model=strict,{SMALL}", cwd=fresh)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and "Fine-tune" not in done.stderr
    *_, line = done.stderr.splitlines()
    assert line.startswith("Error: model=strict: its chat template refuses")
    assert "not so" in line and "the first is row 0 of sft_pairs" in line
