"""What a place gives, as labelled pairs and as a pool."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from ser_kedro.errors import DataError
from ser_kedro.preferences.formats.reader import Dropped
from ser_kedro.preferences.schema import LonePrompt, Message, Pair
from ser_kedro.preferences.source import PreferenceSource

ASK = Message("user", "Why?")


def write(folder, rows, name="a.jsonl"):
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(folder / name)


def pool(folder, rows, **options):
    path = write(folder, rows, "pool.jsonl")
    source = PreferenceSource(path=path, pool_path=path, **options)
    return list(source.pairs("pool"))


def reasons(items):
    return Counter(item.reason.value for item in items if isinstance(item, Dropped))


LABELLED = {"prompt": "Why?", "chosen": "g", "rejected": "b"}
COMPARED = {"prompt": "Why?", "response_a": "x", "response_b": "w", "preference": "a"}
SCORED = {"prompt": "Why?", "responses": ["a", "b", "c", "d"], "scores": [1, 2, 3, 4]}


class TestPool:
    @pytest.mark.parametrize("row", [LABELLED, COMPARED, SCORED])
    def test_labels_are_not_known(self, tmp_path, row):
        (pair,) = pool(tmp_path, [row])

        assert pair.probability is None
        assert pair.chosen < pair.rejected

    def test_labels_that_cannot_be_read_do_not_matter(self, tmp_path):
        row = {**COMPARED, "preference": "?"}

        (pair,) = pool(tmp_path, [row])

        assert (pair.chosen, pair.rejected) == ("w", "x")

    def test_a_flipped_label_changes_nothing(self, tmp_path):
        flipped = {"prompt": "Why?", "chosen": "b", "rejected": "g"}

        assert pool(tmp_path, [LABELLED]) == pool(tmp_path, [flipped])

    def test_scores_that_do_not_fit_do_not_matter(self, tmp_path):
        (pair,) = pool(tmp_path, [{**SCORED, "scores": [1]}])

        assert pair == pool(tmp_path, [SCORED])[0]

    def test_responses_without_labels(self, tmp_path):
        rows = [{"prompt": "Why?", "responses": ["a", "b"]}]

        assert pool(tmp_path, rows) == [Pair((ASK,), "a", "b", probability=None)]

    def test_pairs_of_several_answers_are_few(self, tmp_path):
        found = {
            limit: pool(tmp_path, [SCORED], pool_pairs_per_prompt=limit)
            for limit in (1, 3, 100)
        }

        assert [len(pairs) for pairs in found.values()] == [1, 3, 6]
        assert found[1] == found[3][:1] == found[100][:1]

    def test_which_pairs_does_not_depend_on_the_order(self, tmp_path):
        turned = {"prompt": "Why?", "responses": SCORED["responses"][::-1]}

        first = pool(tmp_path, [SCORED], pool_pairs_per_prompt=2)

        assert first == pool(tmp_path, [turned], pool_pairs_per_prompt=2)

    def test_every_pair_has_its_turn(self, tmp_path):
        rows = [{**SCORED, "prompt": f"Why {n}?"} for n in range(300)]

        drawn = Counter((p.chosen, p.rejected) for p in pool(tmp_path, rows))

        assert len(drawn) == 6 and min(drawn.values()) > 25

    def test_answers_that_are_alike(self, tmp_path):
        rows = [{"prompt": "Why?", "responses": ["a", "a "]}]

        assert reasons(pool(tmp_path, rows)) == {"too_few_answers": 1}


class TestAudit:
    @pytest.mark.parametrize("row", [LABELLED, COMPARED])
    def test_labels_are_kept(self, tmp_path, row):
        (pair,) = pool(tmp_path, [row], pool_labels="audit")

        assert (pair.chosen, pair.probability) in (("g", 1.0), ("x", 1.0))

    def test_best_of_scores(self, tmp_path):
        pairs = pool(tmp_path, [SCORED], pool_labels="audit", pool_pairs_per_prompt=6)

        assert all(pair.chosen > pair.rejected for pair in pairs) and len(pairs) == 6

    def test_ties_are_left_out(self, tmp_path):
        rows = [{**COMPARED, "preference": "tie"}]

        assert reasons(pool(tmp_path, rows, pool_labels="audit")) == {"tie": 1}

    def test_a_tie_takes_no_other_pair_of_its_row_with_it(self, tmp_path):
        rows = [
            {**SCORED, "prompt": f"Why {n}?", "scores": [1, 1, 2, 3]} for n in range(20)
        ]

        pairs = pool(tmp_path, rows, pool_labels="audit", pool_pairs_per_prompt=6)

        assert not reasons(pairs) and len(pairs) == 20 * 5
        assert all((pair.chosen, pair.rejected) != ("a", "b") for pair in pairs)


class TestPrompts:
    def test_prompts_alone(self, tmp_path):
        rows = [{"prompt": "Why?"}, {"prompt": [{"role": "user", "content": "Who?"}]}]

        assert pool(tmp_path, rows) == [
            LonePrompt((ASK,)),
            LonePrompt((Message("user", "Who?"),)),
        ]

    def test_are_of_no_use_as_labelled_pairs(self, tmp_path):
        path = write(tmp_path, [{"prompt": "Why?"}])

        with pytest.raises(DataError, match="prompts alone"):
            list(PreferenceSource(path=path).pairs("train"))


class TestRated:
    def test_rows_of_one_prompt_are_joined(self, tmp_path):
        rows = [
            {"prompt": "Why?", "response": "b", "helpfulness": 1, "coherence": 4},
            {"prompt": "Why?", "response": "g", "helpfulness": 4, "coherence": 4},
            {"prompt": "Who?", "response": "x", "helpfulness": 4, "coherence": 4},
            {"prompt": "How?", "response": "y", "helpfulness": 3, "coherence": 4},
            {"prompt": "How?", "response": "z", "helpfulness": 3, "coherence": 4},
        ]
        source = PreferenceSource(path=write(tmp_path, rows))

        reader = source.read("train")
        first, *rest = reader

        assert reader.recognised.name == "helpsteer2"
        assert (first, first.place) == (Pair((ASK,), "g", "b"), "a.jsonl:1")
        assert reasons(rest) == {"too_few_answers": 1, "tie": 1}


def test_unused_columns_are_counted(tmp_path):
    rows = [{**LABELLED, "notes": "x"}, {**LABELLED, "notes": "y"}, LABELLED]
    reader = PreferenceSource(path=write(tmp_path, rows)).read("train")

    list(reader)

    assert reader.unused == {"notes": 2}
