"""The real client against a real server: ``transformers serve`` with a tiny model."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch

from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.models.params import ScratchParams
from ser_kedro.models.scratch import random_model, train_tokenizer
from ser_kedro.policy_evaluation.judge.judge import judge
from ser_kedro.policy_evaluation.judge.key import find_key
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.judge.prompts import Comparison, score_messages

pytestmark = pytest.mark.slow

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

SERVE = Path(sys.executable).with_name("transformers")
PAIR = Comparison("g", "Say hello.", "Hello to you.", "No.")
SAID = {PAIR.ours: "It greets.\nScore: 4", PAIR.other: "It refuses.\nScore: 1"}
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A folder with a network that knows two answers by heart."""
    calls = {
        answer: score_messages(PAIR.prompt, answer)
        for answer in (PAIR.ours, PAIR.other)
    }
    texts = [m["content"] for call in calls.values() for m in call]
    tokenizer = train_tokenizer(iter([*texts, *SAID.values()]), 800)
    tokenizer.chat_template = TEMPLATE
    rows = []
    for answer, messages in calls.items():
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        asked = tokenizer(prompt)["input_ids"]
        said = [*tokenizer(SAID[answer])["input_ids"], tokenizer.eos_token_id]
        rows.append((asked, said))
    sizes = {"hidden_size": 64, "intermediate_size": 128, "layers": 2, "heads": 4}
    network = random_model(
        ScratchParams(vocab_size=800, **sizes), tokenizer, max_length=2048, seed=0
    ).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    for _ in range(600):
        losses = []
        for asked, said in rows:
            labels = torch.tensor([[-100] * len(asked) + said])
            ids = torch.tensor([asked + said])
            losses.append(network(input_ids=ids, labels=labels).loss)
        loss = sum(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    assert loss < 0.01
    folder = tmp_path_factory.mktemp("judge_model")
    network.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def url(model, tmp_path_factory):
    """The address of a server with that model, offline."""
    port = free_port()
    log = tmp_path_factory.mktemp("serve") / "log"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(SERVE), "serve", str(model), *options],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=env,
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(address, process, log):
    end = time.monotonic() + 120
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"no server after two minutes\n{log.read_text()}")


def test_a_real_model_judges(url, model, project):
    params = JudgeParams(
        base_url=url,
        model=str(model),
        key_variable=None,
        max_tokens=32,
        concurrency=1,
        timeout=120,
        retries=0,
    )
    key = find_key(params, None, {})
    found = judge([PAIR], params, EvaluationParams(), key)
    assert found.scores == [(4, 1)]
    assert (found.unparsed, found.unanswered) == (0, 0)
    assert found.tallies["absolute"].wins == 1
    again = judge([PAIR], params, EvaluationParams(), key)
    assert again.cost.left == 0 and again.scores == found.scores
