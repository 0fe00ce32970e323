"""Few labelled pairs and a pool without labels, from the command line to the table."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest

from ser_kedro.preferences.demo_world.world import WorldParams, draw_pairs

pytestmark = pytest.mark.end_to_end

PAIRS = list(draw_pairs(WorldParams(pairs=460), "train"))
LABELLED, POOL = PAIRS[:60], PAIRS[60:]


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def labelled(fresh):
    return write(
        fresh / "labelled.jsonl",
        [
            {
                "prompt": pair.prompt[0].content,
                "chosen": pair.chosen,
                "rejected": pair.rejected,
            }
            for pair in LABELLED
        ],
    )


def newest(project, name):
    (found,) = project.glob(f"data/own/*/{name}")
    return max(found.iterdir()) / name


def table(project, name):
    reference = json.loads(newest(project, f"{name}.json").read_text())
    with pa.memory_map(str(project / reference["path"])) as source:
        return pa.ipc.open_stream(source).read_all().to_pylist()


def run(kedro, project, labelled, pool, *more):
    given = ",".join(
        (
            f"path={labelled.name},pool_path={pool.name},model=test",
            "self_evolve.max_loops=1,self_evolve.status_rule=quantile",
            "reward.epochs=2",
            *more,
        )
    )
    command = ("--env", "own", "--pipelines", "self_evolve", "--params", given)
    return kedro("run", *command, cwd=project)


def test_answers_without_labels(fresh, kedro, labelled):
    pool = write(
        fresh / "pool.jsonl",
        [
            {"prompt": p.prompt[0].content, "responses": [p.chosen, p.rejected]}
            for p in POOL
        ],
    )

    done = run(kedro, fresh, labelled, pool)

    assert done.returncode == 0, done.stderr
    assert "read as pairs: recognised by chosen, prompt, rejected" in done.stderr
    assert "read as scored: recognised by prompt, responses" in done.stderr
    report = json.loads(newest(fresh, "data_report.json").read_text())
    account = report["rows"]["pool"]
    assert account["read"] == 400
    assert account["kept"] == report["tables"]["unlabeled_pairs"] > 300
    assert sum(report["human_labels"].values()) <= 60
    assert table(fresh, "audit_labels") == []
    held_out = report["tables"]["test_pairs"]
    assert f"compared on {held_out} labelled pairs that were held out" in done.stdout
    (loop,) = [line for line in done.stdout.splitlines() if line.startswith("| 1")]
    assert "unknown" in loop

    refused = kedro(
        *("run", "--env", "own", "--pipelines", "ablations", "--params", "model=test"),
        cwd=fresh,
    )
    assert refused.returncode == 2
    last = refused.stderr.strip().splitlines()[-1]
    assert last.startswith("Error: ablations.methods: oracle, leaky, more_human, full:")


def test_prompts_alone(fresh, kedro, labelled):
    pool = write(
        fresh / "pool.jsonl", [{"prompt": p.prompt[0].content} for p in POOL[:40]]
    )

    done = run(kedro, fresh, labelled, pool, "pool.responses=3,pool.chunk_size=16")

    assert done.returncode == 0, done.stderr
    report = json.loads(newest(fresh, "data_report.json").read_text())
    prompts = report["tables"]["pool_prompts"]
    assert 20 < prompts <= 40 and report["tables"]["unlabeled_pairs"] == 0
    assert f"beside {prompts} prompts, which a model answered" in done.stdout
    answers = table(fresh, "pool_answers")
    assert len(answers) == 3 * prompts
    given = {answer["response"] for answer in answers}
    pairs = table(fresh, "pool_pairs")
    assert pairs
    assert all({pair["response_a"], pair["response_b"]} <= given for pair in pairs)
