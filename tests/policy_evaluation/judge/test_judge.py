"""The judge against a scripted server: what servers do on bad days."""

import json
import logging
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from pydantic import SecretStr

from ser_kedro.errors import JudgeError
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.policy_evaluation.judge.client import masked
from ser_kedro.policy_evaluation.judge.judge import judge, plan_cost
from ser_kedro.policy_evaluation.judge.params import JudgeParams
from ser_kedro.policy_evaluation.judge.prompts import Comparison

KEY = SecretStr("sk-very-secret-0123")
SECRET = KEY.get_secret_value()
EVALUATION = EvaluationParams(resamples=100)
PAIRS = [Comparison(f"g{i}", f"Question {i}?", "good", "bad") for i in range(4)]


def reply(text, **choice):
    message = {"role": "assistant", "content": text}
    first = {"index": 0, "message": message, "finish_reason": "stop", **choice}
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    usage = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
    return 200, {**body, "choices": [first], "usage": usage}


def fair(request):
    """Score good answers 4 and bad ones 1; prefer the good one."""
    body = request["messages"][1]["content"]
    if "<answer_A>" in body:
        ours_is_a = "<answer_A>\ngood" in body
        return reply("Verdict: A" if ours_is_a else "Verdict: B")
    return reply("Score: 4" if "<answer>\ngood" in body else "Score: 1")


class Server:
    """Answers by a script, a function of the request and its number from 0."""

    def __init__(self):
        self.script = lambda request, number: fair(request)
        self.requests, self.keys = [], set()
        self.busy = self.most = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                length = int(self.headers["Content-Length"])
                request = json.loads(self.rfile.read(length))
                with outer.lock:
                    number = len(outer.requests)
                    outer.requests.append(request)
                    outer.keys.add(self.headers["Authorization"])
                    outer.busy += 1
                    outer.most = max(outer.most, outer.busy)
                status, body, *headers = outer.script(request, number)
                with outer.lock:
                    outer.busy -= 1
                data = body if isinstance(body, bytes) else json.dumps(body).encode()
                try:
                    self.send_response(status)
                    named = {"Content-Type": "application/json"}
                    named["Content-Length"] = str(len(data))
                    for pair in {**named, **(headers[0] if headers else {})}.items():
                        self.send_header(*pair)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client did not wait

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.http.server_port}/v1"


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture
def ask(server, project):
    """Judge the pairs on the server; the cache lies in the test's own project."""

    def call(pairs=PAIRS, key=KEY, **changes):
        given = {"model": "m", "base_url": server.url, "retries": 2, "timeout": 5}
        return judge(pairs, JudgeParams(**given | changes), EVALUATION, key)

    return call


def test_absolute(ask, server):
    found = ask()
    tally = found.tallies["absolute"]
    assert (tally.wins, tally.ties, tally.losses, tally.unparsed) == (4, 0, 0, 0)
    assert found.scores == [(4, 1)] * 4
    assert len(server.requests) == 8
    sent = server.requests[0]
    assert (sent["model"], sent["temperature"], sent["max_tokens"]) == ("m", 0.0, 512)


def test_both_modes(ask, server):
    found = ask(mode="both")
    assert set(found.tallies) == {"absolute", "pairwise"}
    assert found.tallies["pairwise"].wins == 4
    assert len(server.requests) == 16


def test_a_judge_that_likes_the_first_place(ask, server):
    server.script = lambda *_: reply("Verdict: A")
    tally = ask(mode="pairwise").tallies["pairwise"]
    assert (tally.ties, tally.favoured_first, tally.favoured_second) == (4, 4, 0)


def test_an_equal_answer_is_asked_for_once(ask, server):
    same = [Comparison("g", "Why?", "good", "good")] * 3
    assert ask(same).tallies["absolute"].ties == 3
    assert len(server.requests) == 1


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(ask, server, status):
    def script(request, number):
        if number < 2:
            return status, {"error": {"message": "later"}}, {"retry-after-ms": "10"}
        return fair(request)

    server.script = script
    assert ask(concurrency=1).tallies["absolute"].wins == 4
    assert len(server.requests) == 10


def test_a_server_that_stays_busy_is_one_line(ask, server):
    server.script = lambda *_: (429, {}, {"retry-after-ms": "5"})
    with pytest.raises(JudgeError, match=r"429\) after 3 tries; lower concurrency"):
        ask(concurrency=1)


def test_a_slow_answer_is_asked_for_again(ask, server):
    def script(request, number):
        if number == 0:
            time.sleep(1)
        return fair(request)

    server.script = script
    assert ask(PAIRS[:1], timeout=0.3, concurrency=1).scores == [(4, 1)]
    assert len(server.requests) == 3


def test_a_server_that_never_answers_is_one_line(ask, server):
    server.script = lambda *_: time.sleep(1) or reply("Score: 1")
    with pytest.raises(JudgeError, match=r"no answer within 0.1 s after 1 tries"):
        ask(PAIRS[:1], timeout=0.1, retries=0)


def test_nobody_is_there(ask, server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(JudgeError, match="cannot be reached after 1 tries"):
        ask(retries=0)


@pytest.mark.parametrize(
    "odd",
    [
        (200, b"<html>welcome</html>", {"Content-Type": "text/html"}),
        (200, b'{"choices": [{"mess'),
        (200, b"null"),
        (200, {}),
        (200, {"choices": []}),
        (200, {"choices": None}),
        (200, {"choices": [{"message": {"content": None}}]}),
        (200, {"choices": [{"message": {"content": 4}}]}),
        (200, {"choices": [None]}),
    ],
    ids=range(9),
)
def test_a_reply_without_an_answer_is_counted_and_not_kept(ask, server, odd):
    server.script = lambda request, number: odd if number == 0 else fair(request)
    found = ask(concurrency=1, retries=0)
    tally = found.tallies["absolute"]
    assert (tally.wins, tally.unparsed, found.unanswered) == (3, 1, 1)
    again = ask(concurrency=1)
    assert (again.tallies["absolute"].wins, again.unanswered) == (4, 0)
    assert len(server.requests) == 9


@pytest.mark.parametrize("text", ["Score: 11", "I would say 4", "Score: 4 Score:"])
def test_an_absurd_answer_is_counted_not_guessed(ask, server, text):
    server.script = lambda request, number: reply(text) if number else fair(request)
    found = ask(concurrency=1)
    assert found.tallies["absolute"].unparsed == 4
    assert found.tallies["absolute"].win is None
    assert (found.unparsed, found.unanswered) == (7, 0)


def test_an_answer_cut_off_by_its_length(ask, server):
    server.script = lambda *_: reply("The answer is good, sin", finish_reason="length")
    assert ask().tallies["absolute"].unparsed == 4


class TestSecrets:
    @pytest.mark.parametrize("status", [400, 401, 403, 422])
    def test_a_refused_key_is_one_line_without_it(self, ask, server, caplog, status):
        caplog.set_level(logging.DEBUG)
        said = {"error": {"message": f"Incorrect API key provided: {SECRET}"}}
        server.script = lambda *_: (status, said)
        with pytest.raises(JudgeError) as caught:
            ask()
        told = "".join(traceback.format_exception(caught.value))
        assert SECRET not in told + caplog.text + repr(caught.value)
        assert "\n" not in str(caught.value) and str(status) in str(caught.value)
        if status in (401, 403):
            assert "check credentials" in str(caught.value)

    @pytest.mark.parametrize("part", [SECRET[:12], SECRET[6:], SECRET])
    def test_parts_of_it_are_told_by_nobody(self, ask, server, project, part):
        """A refusal that quotes half of it, and an answer that echoes it."""
        server.script = lambda *_: (400, {"error": {"message": f"bad key {part}…"}})
        with pytest.raises(JudgeError) as caught:
            ask()
        assert part not in str(caught.value) and "bad key ***" in str(caught.value)
        server.script = lambda *_: reply(f"You sent {part}.\nScore: 3")
        assert ask().scores == [(3, 3)] * 4
        (file,) = (project / "data" / "judge").iterdir()
        assert part not in file.read_text()

    def test_a_key_may_be_as_long_as_a_token_of_a_cloud(self):
        """Of 1,500 characters; a pattern nested so deep would not compile."""
        key = "".join(f"{number:04x}" for number in range(375))
        text = f"bad key {key[3:900]} and {key[900:907]}"
        assert masked(text, key, 6) == "bad key *** and ***"
        assert masked("nothing of it", key, 6) == "nothing of it"

    def test_words_that_look_like_parts_of_it_are_kept(self, ask, server, project):
        text = "Is it secret?\nScore: 3"  # seven characters of the key
        server.script = lambda *_: reply(text)
        ask()
        (file,) = (project / "data" / "judge").iterdir()
        assert json.loads(file.read_text().splitlines()[0])["text"] == text

    def test_the_key_is_sent_and_kept_nowhere(self, ask, server, project, caplog):
        caplog.set_level(logging.DEBUG)
        found = ask()
        assert server.keys == {f"Bearer {SECRET}"}
        kept = [p.read_text() for p in project.rglob("*") if p.is_file()]
        assert kept and not any(SECRET in text for text in kept)
        assert SECRET not in repr(found) + caplog.text

    def test_a_model_that_is_not_there(self, ask, server):
        server.script = lambda *_: (404, {"error": {"message": "no such model"}})
        with pytest.raises(JudgeError, match="no such model or address"):
            ask()


class TestAnswers:
    def test_in_parts(self, ask, server):
        parts = [
            {"type": "text", "text": "So.\n"},
            {"type": "text", "text": "Score: 2"},
        ]
        server.script = lambda *_: reply(parts)
        assert ask().scores == [(2, 2)] * 4

    @pytest.mark.parametrize("empty", ["", " \n", None, []])
    def test_an_empty_one_is_asked_for_again(self, ask, server, empty):
        server.script = lambda *_: reply(empty, reasoning_content="Score: 1")
        found = ask()
        assert (found.unanswered, found.unparsed) == (8, 0)
        server.script = lambda request, number: fair(request)
        assert ask().tallies["absolute"].wins == 4

    def test_half_a_surrogate_loses_nothing(self, ask, server):
        server.script = lambda *_: reply("\ud800\nScore: 2")
        assert ask().scores == [(2, 2)] * 4
        asked = len(server.requests)
        assert ask().scores == [(2, 2)] * 4
        assert len(server.requests) == asked


class TestCache:
    def test_saves_all_calls_of_a_second_run(self, ask, server):
        first = ask(mode="both")
        asked = len(server.requests)
        second = ask(mode="both")
        assert len(server.requests) == asked
        assert second.tallies == first.tallies
        assert (second.cost.left, second.cost.cached) == (0, 16)

    def test_other_settings_are_other_calls(self, ask, server):
        ask()
        ask(temperature=0.5)
        assert len(server.requests) == 16

    def test_after_an_interruption_only_the_rest_is_asked(self, ask, server, project):
        def script(request, number):
            return fair(request) if number != 3 else (418, {})

        server.script = script
        with pytest.raises(JudgeError, match="answers so far are kept"):
            ask(concurrency=1)
        kept = (project / "data" / "judge" / "answers.jsonl").read_text().splitlines()
        assert len(kept) >= 3
        server.requests.clear()
        server.script = lambda request, number: fair(request)
        assert ask().tallies["absolute"].wins == 4
        assert len(server.requests) == 8 - len(kept)

    def test_ctrl_c_keeps_what_is_there(self, ask, server, project, monkeypatch):
        from ser_kedro.policy_evaluation.judge import judge as module

        def interrupted(waiting):
            for done, _ in zip(waiting, range(2), strict=False):
                done.result()
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "as_completed", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask(concurrency=1)
        monkeypatch.undo()
        monkeypatch.setenv("SER_KEDRO_PROJECT", str(project))
        asked = len(server.requests)
        assert 2 <= asked < 8
        assert ask().cost.cached == asked

    def test_the_cost_is_known_before_the_start(self, ask, server, project):
        prices = {"input_price": 2.5, "output_price": 10}
        params = JudgeParams(model="m", base_url=server.url, **prices)
        before = plan_cost(PAIRS, params)
        assert (before.left, server.requests) == (8, [])
        assert before.price == pytest.approx(
            (2.5 * before.prompt_tokens + 10 * 8 * 512) / 1e6
        )
        ask(PAIRS[:1])
        assert plan_cost(PAIRS, params).left == 6


def test_calls_under_way_are_bounded(ask, server):
    server.script = lambda request, number: time.sleep(0.05) or fair(request)
    ask(mode="both", concurrency=3)
    assert 2 <= server.most <= 3
