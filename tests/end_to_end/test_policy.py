"""The run to the policy: what it leaves, and what a judge may cost and see."""

import json
import shutil

import pytest

from tests.policy_evaluation.judge.test_judge import KEY, SECRET, server  # noqa: F401

pytestmark = pytest.mark.end_to_end

PPO = ("run", "--env", "test", "--pipelines", "policy")
JUDGE = "policy_evaluation.judge"
SESSION = """
import json
from pathlib import Path
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

bootstrap_project(Path.cwd())
with KedroSession.create(env="test") as session:
    catalog = session.load_context().catalog
    shown = {name: type(catalog.load(name)).__name__ for name in NAMES}
    samples = catalog.get("policy_samples").preview()
    figures = catalog.load("policy_evaluation")
print(json.dumps([shown, samples, figures]))
"""
KINDS = {
    "policy": "ModelRef",
    "last_policy": "ModelRef",
    "ppo_history": "TableRef",
    "policy_samples": "TableRef",
    "policy_answers": "TableRef",
    "sft_answers": "TableRef",
    "policy_evaluation": "dict",
}


@pytest.fixture(scope="module")
def project(finished, tmp_path_factory):
    """A copy in which ``self_evolve`` ran."""
    copy = tmp_path_factory.mktemp("policy") / "project"
    shutil.copytree(finished, copy)
    return copy


@pytest.fixture(scope="module")
def ran(project, kedro):
    """What the run to the policy printed."""
    done = kedro(*PPO, cwd=project)
    assert done.returncode == 0, done.stderr
    return done


def test_says_what_it_was_worth(ran):
    (line,) = (x for x in ran.stderr.splitlines() if "policy evaluation: " in x)
    assert "gold reward of the SFT model" in line and "of the policy" in line


def test_leaves_policy_history_samples_and_evaluation(ran, project, python):
    done = python("-", cwd=project, input=f"NAMES = {list(KINDS)}\n{SESSION}")

    assert done.returncode == 0, done.stderr
    shown, samples, figures = json.loads(done.stdout.splitlines()[-1])
    assert shown == KINDS
    assert samples["columns"][:3] == ["prompt", "before", "after"]
    assert figures["prompts"] > 100
    assert figures["gold"]["difference"]["low"] <= figures["gold"]["win"]["value"]
    assert figures["answers"]["sft"]["kl"] == pytest.approx(0, abs=1e-6)


def test_nobody_sees_the_judges_key(ran, project, kedro, server, tmp_path):  # noqa: F811
    judged = tmp_path / "project"
    shutil.copytree(project, judged)
    credentials = judged / "conf" / "local" / "credentials.yml"
    credentials.write_text(f"judge:\n  api_key: {SECRET}\n", "utf-8")
    given = {"model": "m", "base_url": server.url, "retries": "1"}
    params = [f"{JUDGE}.{name}={value}" for name, value in given.items()]
    params += ["policy_evaluation.prompts=6"]

    done = kedro(*PPO, "--params", ",".join(params), cwd=judged)

    assert done.returncode == 0, done.stderr
    assert server.keys == {f"Bearer {KEY.get_secret_value()}"}
    cost = done.stderr.index("prompt tokens and at most")
    assert cost < done.stderr.index("policy evaluation: ")
    assert "judge (absolute): " in done.stderr
    assert SECRET not in done.stdout + done.stderr
    for file in (judged / "data").rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file
