import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks import common, pairs, smollm2_ladder
from benchmarks.child import MARK
from benchmarks.common import Result, Row, compared, limited
from benchmarks.flops import forward_flops, seen_packed, training_flops
from benchmarks.page import from_json, render_json, render_page, to_json
from ser_kedro.models import pack
from ser_kedro.models.encode import EncodedPair

SIZE = pairs.Size(layers=2, hidden=64, intermediate=172, heads=4)
GROUPED = replace(SIZE, kv_heads=2)  # as in SmolLM2
KEYS = "name contender unit ours theirs ratio low high target met".split()


def make_model(size):
    return LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=100,
            hidden_size=size.hidden,
            intermediate_size=size.intermediate,
            num_hidden_layers=size.layers,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads or size.heads,
            num_labels=1,
            pad_token_id=0,
            attn_implementation="eager",
        )
    )


class TestFlops:
    @pytest.mark.parametrize("size", [SIZE, GROUPED])
    def test_agree_with_torchs_own_count(self, size):
        model = make_model(size)
        rows, length = 3, 40
        ids = torch.randint(1, 100, (rows, length))
        with FlopCounterMode(display=False) as forward:
            reward = model(input_ids=ids).logits.sum()
        with FlopCounterMode(display=False) as backward:
            reward.backward()
        # Attention spelt out computes the keys that the mask hides too.
        counts = size, rows * length, rows * length * length

        ours = forward_flops(*counts)
        assert ours == pytest.approx(forward.get_total_flops(), rel=0.02)
        whole = forward.get_total_flops() + backward.get_total_flops()
        assert training_flops(*counts) == pytest.approx(whole, rel=0.02)

    def test_keys_seen_in_a_packed_row_are_those_of_its_mask(self):
        segments = np.repeat([0, 1, 2], [5, 3, 4])
        order = np.arange(12)
        before = order[None] <= order[:, None]
        own = segments[None] == segments[:, None]
        assert seen_packed(5, 3, 4) == (before & (own | (segments[None] == 0))).sum()


class TestLadder:
    @pytest.mark.parametrize("way", smollm2_ladder.WAYS[1:], ids=lambda way: way.name)
    def test_all_ways_give_the_rewards_of_padded_rows(self, way):
        torch.manual_seed(0)
        model = make_model(GROUPED).eval()
        assert pack.enable(model).exact
        rows = [
            EncodedPair([5, 6, 7, 8, 9], [10, 11], [12, 13, 14], overlong=False),
            EncodedPair([20, 21], [22, 23, 24, 25], [26], overlong=False),
        ]
        with torch.no_grad():
            rewards, tokens = way.rewards(model, rows)
            plain, most = smollm2_ladder.padded(model, rows)
        assert rewards.shape == (2, 2)
        torch.testing.assert_close(rewards, plain, atol=1e-6, rtol=1e-5)
        assert tokens <= most


class TestRow:
    def test_ratio_is_the_median_of_neighbours_not_the_ratio_of_medians(self):
        row = compared("speed", "them", "pairs/s", [10, 4, 9], [5, 1, 3], ">= 3")
        assert (row.ours, row.theirs) == (9, 3)
        assert (row.low, row.ratio, row.high) == (2, 3, 4)
        assert row.met

    @pytest.mark.parametrize(
        ("target", "met"), [(">= 2", True), (">= 2.1", False), ("<= 2", True)]
    )
    def test_met_is_about_the_ratio(self, target, met):
        assert compared("x", "y", "z", [4.0], [2.0], target).met is met

    def test_without_a_contender_the_figure_itself_keeps_the_limit(self):
        row = limited("gap", "itself", "nats", [1e-5, 3e-4, 2e-5], "<= 0.0001")
        assert row.met and row.ratio is None and row.theirs is None
        assert (row.low, row.high) == (1e-5, 3e-4)


class TestPage:
    @pytest.fixture
    def results(self):
        rows = [
            compared("speed", "TRL", "pairs/s", [16.0], [4.0], ">= 3"),
            compared("memory", "TRL", "MiB", [700.0], [350.0], "<= 1"),
        ]
        gap = limited("gap", "TRL", "nats", [2e-6], "<= 0.0001")
        facts = {"Measured": "today", "Machine": "two cores"}
        return {
            "training": Result(rows, "What it means.", facts),
            "losses": Result([gap], "Step by step.", facts),
        }

    def test_json_has_the_agreed_keys(self, results):
        lines = json.loads(render_json(results))
        assert [list(line) for line in lines] == [KEYS] * 3
        assert [line["met"] for line in lines] == [True, False, True]
        assert lines[0]["ratio"] == 4.0 and lines[2]["ratio"] is None

    def test_page_has_a_line_for_each_row_and_says_what_is_not_met(self, results):
        page = render_page(results)
        line = "| speed | TRL | 16 pairs/s | 4 pairs/s | 4 (4 to 4) | ≥ 3 | yes |"
        assert line in page
        memory = next(row for row in page.splitlines() if row.startswith("| memory"))
        assert memory.endswith("| ≤ 1 | **no** |")
        assert "| gap | TRL | 2e-06 nats |  | 2e-06 to 2e-06 | ≤ 0.0001 | yes |" in page

    def test_page_explains_each_result_and_names_its_command(self, results):
        page = render_page(results)
        for name, result in results.items():
            assert result.text in page
            assert f"`python -m benchmarks {name}`" in page
        assert "Machine: two cores" in page

    def test_results_are_kept_between_runs(self, results):
        kept = json.loads(json.dumps({n: to_json(r) for n, r in results.items()}))
        again = {name: from_json(value) for name, value in kept.items()}
        assert again == results
        assert isinstance(again["training"].rows[0], Row)


class TestChild:
    def test_contenders_take_turns(self, monkeypatch, tmp_path):
        monkeypatch.setattr(common, "TURNS", tmp_path)
        calls = []

        def run(module, contender, seed, path):
            calls.append((contender, seed, path))
            return {"speed": len(calls)}

        monkeypatch.setattr(common, "run_child", run)
        figures = common.take_turns("m", ("a", "b"), range(2), {"b": "folder"})
        assert calls == [
            ("a", 0, ""),
            ("b", 0, "folder"),
            ("a", 1, ""),
            ("b", 1, "folder"),
        ]
        assert common.column(figures["b"], "speed") == [2, 4]

    def test_an_interrupted_benchmark_goes_on_where_it_was(self, monkeypatch, tmp_path):
        monkeypatch.setattr(common, "TURNS", tmp_path)
        calls = []

        def run(module, contender, seed, path):
            calls.append((contender, seed))
            if len(calls) == 3:
                raise KeyboardInterrupt
            return {"speed": len(calls)}

        monkeypatch.setattr(common, "run_child", run)
        with pytest.raises(KeyboardInterrupt):
            common.take_turns("m", ("a", "b"), range(2))
        figures = common.take_turns("m", ("a", "b"), range(2))
        assert calls == [("a", 0), ("b", 0), ("a", 1), ("a", 1), ("b", 1)]
        assert common.column(figures["b"], "speed") == [2, 5]
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(("clock", "threads"), [("wall", "2"), ("processor", "1")])
    def test_figures_come_back_from_a_process(
        self, monkeypatch, tmp_path, clock, threads
    ):
        monkeypatch.setenv("BENCH_CLOCK", clock)
        code = (
            "from benchmarks.child import arguments, hand_back\n"
            "import os\n"
            "given = arguments()\n"
            "print('chatter of a library')\n"
            "threads = os.environ['OMP_NUM_THREADS']\n"
            "hand_back({'name': given.contender, 'seed': given.seed, 'n': threads})\n"
        )
        (tmp_path / "toy.py").write_text(code)
        figures = common.run_child("toy", "us", 7, path=str(tmp_path))
        assert figures == {"name": "us", "seed": 7, "n": threads}

    def test_a_child_that_fails_shows_why(self, tmp_path):
        (tmp_path / "toy.py").write_text(f"print('{MARK}'); raise OSError('no room')")
        with pytest.raises(SystemExit, match="no room"):
            common.run_child("toy", "us", path=str(tmp_path))

    def test_memory_that_is_freed_again_is_in_the_peak(self):
        # In a process of its own: here, what other tests left may be freed meanwhile.
        done = subprocess.run(
            [sys.executable, "-c", _FREED],
            capture_output=True,
            text=True,
            check=True,
            cwd=pairs.ROOT,
        )
        assert 60 < float(done.stdout) < 150


_FREED = """
import numpy as np
from benchmarks.child import watch_memory

with watch_memory() as peak:
    block = np.ones(64 * 2**20 // 8)
    for _ in range(200):
        block += 1
        if peak.above > 60:
            break
    del block
print(peak.above)
"""


def test_missing_data_is_said_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setattr(pairs, "FILES", {"train": tmp_path / "none.jsonl.gz"})
    with pytest.raises(SystemExit, match="no real pairs"):
        pairs.prepare()
