from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_kedro.errors import DataError
from ser_kedro.preferences.checks import check_pairs
from ser_kedro.preferences.collect import RAW, collect
from ser_kedro.preferences.demo_world.world import WorldParams
from ser_kedro.preferences.schema import AUDIT, PROMPTS
from ser_kedro.preferences.source import PreferenceSource
from ser_kedro.store.tables import BATCH, map_table

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def row(prompt="Why?", chosen="g", rejected="b", source="s"):
    return {
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "source": source,
    }


def run(folder, rows, *, format="pairs", limit=1.0, **options):
    path = Path(folder) / "a.jsonl"
    lines = [r if isinstance(r, str) else json.dumps(r) for r in rows]
    path.write_text("\n".join(lines))
    source = PreferenceSource(format=format, path=str(path), **options)
    return collect(source, "train", Path(folder), limit)


def kept(collected):
    rows = map_table(collected.path).take(collected.indices)
    return rows.drop_columns("place").to_pylist()


class TestKept:
    def test_rows_lie_in_the_file_and_are_sorted_by_pair_id(self, tmp_path):
        collected = run(tmp_path, [row(f"Why {n}?") for n in range(20)])

        ids = [found["pair_id"] for found in kept(collected)]

        assert collected.path == tmp_path / "raw_train.arrow"
        assert map_table(collected.path).schema == RAW
        assert collected.indices.dtype == np.int64
        assert (collected.read, collected.kept, collected.dropped) == (20, 20, {})
        assert ids == sorted(ids)

    def test_more_rows_than_a_batch(self, tmp_path):
        collected = run(tmp_path, [row(f"Why {n}?") for n in range(2 * BATCH + 1)])

        assert collected.kept == len(kept(collected)) == 2 * BATCH + 1

    def test_of_copies_the_first_source_is_kept(self, tmp_path):
        rows = [row(source=name) for name in "cab"] + [row("Who?")]

        collected = run(tmp_path, rows, limit=0)

        assert collected.dropped == {"duplicate": 2}
        assert sorted(found["source"] for found in kept(collected)) == ["a", "s"]

    def test_annotators_who_are_even_drop_all_copies(self, tmp_path):
        rows = [row(), row(chosen="b", rejected="g"), row("Who?")]

        collected = run(tmp_path, rows)

        assert collected.dropped == {"conflicting_labels": 2}
        assert [found["prompt"][0]["content"] for found in kept(collected)] == ["Who?"]
        assert collected.examples[0][1] == "conflicting_labels"
        assert "Why?" in collected.examples[0][2]

    @pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 1, 0, 2)])
    def test_votes_of_annotators_become_a_soft_label(self, tmp_path, order):
        votes = [row(), row(), row(), row(chosen="b", rejected="g")]

        collected = run(tmp_path, [votes[number] for number in order])

        (found,) = kept(collected)
        assert collected.dropped == {"joined_annotations": 3}
        assert (found["chosen"], found["rejected"]) == ("g", "b")
        assert collected.soft_labels.tolist() == [0.75]

    def test_soft_labels_are_votes_too(self, tmp_path):
        rows = [{**row(), "soft_label": 0.75}, {**row(), "soft_label": 0.35}]

        collected = run(tmp_path, rows)

        assert kept(collected)[0]["chosen"] == "g"
        assert collected.soft_labels == pytest.approx([0.55])

    def test_demo_world(self, tmp_path):
        world = WorldParams(pairs=50, test_pairs=10)
        source = PreferenceSource(format="demo_world", world=world)

        collected = collect(source, "test", tmp_path, 1.0)

        assert collected.read == 10

    @pytest.mark.skipif(not DATA.is_dir(), reason=f"no real preference data at {DATA}")
    def test_real_data(self, tmp_path):
        path = str(DATA / "hh_rlhf_raw_helpful_base.jsonl.gz")
        source = PreferenceSource(format="hh", path=path)

        collected = collect(source, "train", tmp_path, 0.01)

        assert collected.read == 2354
        assert collected.read == collected.kept + sum(collected.dropped.values())
        assert all(place.startswith("hh_rlhf_raw") for place, *_ in collected.examples)


class TestProperties:
    texts = st.sampled_from(["x", "y", "z", " "])
    rows = st.lists(
        st.one_of(
            st.builds(row, texts, texts, texts, st.sampled_from(["s", "t"])),
            st.sampled_from(["{", "[]", "{}"]),
        ),
        min_size=1,
        max_size=30,
    )

    @settings(max_examples=60, deadline=None)
    @given(rows, st.randoms(use_true_random=False))
    def test_order_does_not_matter_and_nothing_is_lost(self, rows, random):
        good = [*rows, row("certain")]
        shuffled = random.sample(good, len(good))
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            first, second = run(one, good), run(two, shuffled)

            # As texts: a margin that is not said is NaN.
            assert repr(kept(first)) == repr(kept(second))
            assert first.dropped == second.dropped
            assert first.read == first.kept + sum(first.dropped.values()) == len(good)


class TestErrors:
    def test_too_many_bad_rows_quotes_three_with_their_lines(self, tmp_path):
        rows = [row(f"{n}?") for n in range(6)] + ["{", "[]", row(chosen=" "), "{"]

        with pytest.raises(DataError, match=r"4 of 10 rows \(40.0%\)") as caught:
            run(tmp_path, rows, limit=0.39)

        text = str(caught.value)
        assert all(f"a.jsonl:{line} " in text for line in (7, 8, 9))
        assert "a.jsonl:10" not in text
        assert "\n" not in text
        assert run(tmp_path, rows, limit=0.4).kept == 6

    def test_ties_and_copies_are_not_bad(self, tmp_path):
        def scored(prompt, *scores):
            found = [{"text": f"{n}", "score": s} for n, s in enumerate(scores)]
            return {"prompt": prompt, "responses": found}

        rows = [scored("a", 1, 2), scored("a", 1, 2), scored("b", 1, 1)]

        collected = run(tmp_path, rows, format="scored", limit=0)

        assert collected.dropped == {"duplicate": 1, "tie": 1}

    def test_nothing_left(self, tmp_path):
        with pytest.raises(DataError, match="no usable pair among 1 rows"):
            run(tmp_path, ["{"])


class TestCheckPairs:
    good = {
        "annotators": "",
        "pair_id": "0" * 32,
        "prompt": [{"role": "user", "content": "Why?"}],
        "chosen": "g",
        "rejected": "b",
        "source": "",
        "key": "Why?",
        "place": "",
    }

    def batch(self, **changes):
        return pa.RecordBatch.from_pylist([self.good, {**self.good, **changes}], RAW)

    def test_good_rows_pass(self):
        check_pairs(self.batch(), RAW)
        check_pairs(
            pa.RecordBatch.from_pylist(
                [{"pair_id": "f" * 32, "a_is_chosen": True}], AUDIT
            ),
            AUDIT,
        )
        check_pairs(
            pa.RecordBatch.from_pylist(
                [{"group": "1", "prompt": self.good["prompt"]}], PROMPTS
            ),
            PROMPTS,
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"pair_id": "0" * 31},
            {"pair_id": "G" * 32},
            {"chosen": ""},
            {"chosen": "b"},
            {"rejected": None},
            {"source": None},
            {"prompt": []},
            {"prompt": None},
        ],
    )
    def test_bad_rows_do_not(self, changes):
        with pytest.raises(DataError, match="a table of pairs is invalid") as caught:
            check_pairs(self.batch(**changes), RAW)

        assert "\n" not in str(caught.value)

    def test_other_columns(self):
        with pytest.raises(DataError, match="columns"):
            check_pairs(self.batch(), PROMPTS)


def test_single_turns_are_grouped_by_the_dialogue_they_were_cut_from(tmp_path):
    asked = "Why is the sky so blue?"
    history = f"Human: {asked}\n\nAssistant: So.\n\nHuman: {{}}\n\nAssistant:"
    rows = [row(history.format(last)) for last in ("Really?", "And then?")]

    found = kept(run(tmp_path, rows, single_turn=True))

    assert {pair["key"] for pair in found} == {asked}
    assert {pair["prompt"][0]["content"] for pair in found} == {"Really?", "And then?"}


def test_conflicts_are_quoted_with_their_lines(tmp_path):
    rows = [row("a"), row("a", chosen="b", rejected="g"), *map(row, "cdefgh")]

    collected = run(tmp_path, rows, limit=0)

    quoted = [(place, reason) for place, reason, _ in collected.examples]
    assert quoted == [
        ("a.jsonl:1", "conflicting_labels"),
        ("a.jsonl:2", "conflicting_labels"),
    ]
