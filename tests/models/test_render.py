"""All data are rendered once, before anything is trained."""

import logging

import pytest

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE
from ser_kedro.models import render
from ser_kedro.models.params import ModelParams, ScratchParams
from ser_kedro.models.render_job import RenderJob
from ser_kedro.models.rendering import check_rendering
from ser_kedro.preferences.schema import LABELED, PROMPTS, UNLABELED
from tests.models import brought, templates

SCRATCH = ScratchParams(
    vocab_size=300, hidden_size=8, intermediate_size=8, layers=1, heads=1
)
USER = [{"role": "user", "content": "what is good?"}]
SYSTEM = [{"role": "system", "content": "be good"}, *USER]
BACKWARDS = [{"role": "assistant", "content": "hello"}, *USER]


def labeled(number, prompt, chosen="yes", rejected="no"):
    return {
        "pair_id": f"pair-{number}",
        "group": f"group-{number}",
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "source": "",
    }


def unlabeled(number, prompt):
    row = labeled(number, prompt)
    return {**row, "response_a": row["chosen"], "response_b": row["rejected"]}


@pytest.fixture
def parts(table):
    """Three small tables, of the rows that are given."""

    def make(*prompts):
        rows = list(enumerate(prompts))
        return {
            "labeled_pairs": table("l", [labeled(*row) for row in rows], LABELED),
            "unlabeled_pairs": table("u", [unlabeled(*row) for row in rows], UNLABELED),
            "ppo_prompts": table(
                "p", [{"group": f"group-{n}", "prompt": p} for n, p in rows], PROMPTS
            ),
        }

    return make


@pytest.fixture
def report(parts):
    """Check the rows that are given with a model that has a template."""

    def check(folder, template, *prompts, **changes):
        model = ModelParams(name=str(brought.llama(folder, template)), **changes)
        tables = parts(*prompts)
        return check_rendering(tables, tables["labeled_pairs"], model, INLINE)

    return check


def test_counts_what_was_merged_and_says_each_once(report, tmp_path, caplog):
    caplog.set_level(logging.WARNING, "ser_kedro")
    two = [*USER, *USER]
    found = report(tmp_path / "m", templates.GEMMA, USER, SYSTEM, two, [*SYSTEM, *USER])
    assert found["prompts"] == {
        "labeled_pairs": 4,
        "unlabeled_pairs": 4,
        "ppo_prompts": 4,
    }
    assert found["rows"] == 2 * 4 + 2 * 4 + 4
    assert found["system_turns_merged"] == 2 * 3
    assert found["repeated_turns_merged"] == 2 * 3
    assert (found["answers_appended"], found["refused"]) == (0, {})
    said = [r.getMessage() for r in caplog.records if "ser_kedro" in r.name]
    assert len(said) == 2
    assert "refuses system turns" in said[0] and "(6 of 12 prompts)" in said[0]
    assert "consecutive turns" in said[1] and "(6 of 12 prompts)" in said[1]


def test_says_it_again_where_the_result_is_reused(report, tmp_path, caplog):
    report(tmp_path / "m", templates.GEMMA, SYSTEM)
    caplog.clear()
    report(tmp_path / "m", templates.GEMMA, SYSTEM)
    assert "merged" in caplog.text


def test_a_template_that_changes_with_the_last_turn_is_counted(report, tmp_path):
    found = report(tmp_path / "m", templates.MISTRAL_3, USER, SYSTEM)
    assert (found["answers_appended"], found["system_turns_merged"]) == (3, 0)


def test_tokens_are_those_of_the_rows(report, tmp_path):
    found = report(tmp_path / "m", "{{ messages[-1].content }}", USER)
    tokenizer = brought.tokenizer_of()
    rows = [len(tokenizer("what is good?")["input_ids"])]
    # A template that shows the answer alone: "yes" and "no", each with the end.
    assert found["tokens"]["min"] == rows[0]
    assert found["tokens"]["max"] > rows[0]


def test_what_is_refused_is_one_line_that_says_where(report, tmp_path):
    with pytest.raises(ModelError) as error:
        report(tmp_path / "m", templates.GEMMA, USER, BACKWARDS, SYSTEM)
    text = str(error.value)
    assert text == (
        f"model={tmp_path / 'm'}: its chat template refuses 3 of 9 prompts:"
        f" {templates.ALTERNATE} (3); the first is row 1 of labeled_pairs (pair-1,"
        ' "what is good?"); take such dialogues out of the data, or give another'
        " template as chat_template in a preset of the model"
    )


def test_a_file_takes_the_place_of_the_template(report, tmp_path):
    file = tmp_path / "chat.jinja"
    file.write_text(templates.LLAMA_32)
    found = report(tmp_path / "m", templates.GEMMA, BACKWARDS, chat_template=str(file))
    assert (found["refused"], found["date"]) == ({}, "2024-07-26")


def test_the_date_is_reported_where_the_template_asks_for_it(report, tmp_path):
    assert report(tmp_path / "one", templates.GEMMA, USER)["date"] is None
    found = report(
        tmp_path / "two", templates.LLAMA_32, USER, template_date="2020-01-02"
    )
    assert found["date"] == "2020-01-02"


def test_without_a_template_everything_is_rendered(parts, caplog):
    tables = parts(USER, SYSTEM, [*USER, *USER], BACKWARDS)
    model = ModelParams(name="tiny", scratch=SCRATCH)
    found = check_rendering(tables, tables["labeled_pairs"], model, INLINE)
    assert (found["template"], found["rows"], found["refused"]) == ("plain", 20, {})
    assert found["system_turns_merged"] == found["repeated_turns_merged"] == 0
    assert "merged" not in caplog.text


def test_an_empty_part_is_fine(parts, tmp_path):
    tables = parts()
    model = ModelParams(name=str(brought.llama(tmp_path / "m")))
    found = check_rendering(tables, tables["labeled_pairs"], model, INLINE)
    assert (found["rows"], found["tokens"]) == (0, None)


def test_interrupted_work_goes_on(parts, tmp_path, monkeypatch):
    tables = parts(*[USER, SYSTEM] * 6)
    model = ModelParams(name=str(brought.llama(tmp_path / "m", templates.GEMMA)))
    job = RenderJob(model=model, parts=tables, vocabulary=tables["labeled_pairs"])
    whole = run(job.model_copy(update={"parts": dict(tables)}))
    expected = whole["template_report"].read()
    monkeypatch.setattr(render, "_CHUNK", 5)
    rendered, done = render._render, []

    def break_off(encoder, part, start, batch):
        done.append((part, start))
        if len(done) == 5:
            raise KeyboardInterrupt
        return rendered(encoder, part, start, batch)

    monkeypatch.setattr(render, "_render", break_off)
    workspace = tmp_path / "work"
    workspace.mkdir()
    with pytest.raises(KeyboardInterrupt):
        job.work(workspace)
    job.work(workspace)
    assert done[4] == done[5] == ("unlabeled_pairs", 5)
    assert len(done) == 10
    assert [p.name for p in workspace.iterdir()] == ["template_report.json"]
    assert render.read_json(workspace / "template_report.json") == expected


def test_the_template_and_the_date_are_part_of_the_job(parts, tmp_path):
    folder = str(brought.llama(tmp_path / "m"))
    file = tmp_path / "chat.jinja"
    file.write_text(templates.GEMMA)
    tables = parts(USER)
    changes = ({}, {"chat_template": str(file)}, {"template_date": "2020-01-02"})
    jobs = {
        RenderJob(
            model=ModelParams(name=folder, **change),
            parts=tables,
            vocabulary=tables["labeled_pairs"],
        ).fingerprint
        for change in changes
    }
    assert len(jobs) == 3
