import pyarrow as pa
import pytest

from ser_kedro.evaluation.consistency import consistency, consistency_of, lines
from ser_kedro.evaluation.consistency_job import (
    AS_IT_IS,
    CONSISTENCY,
    PARAPHRASES,
    SWAPPED,
    TRAILING_SPACE,
    variants,
)
from ser_kedro.evaluation.params import EvaluationParams
from ser_kedro.launch.params import INLINE
from ser_kedro.training.params import RewardParams

REWARD = RewardParams(
    learning_rate=1e-3, epochs=1, batch_size=8, scheduler="constant", max_length=256
)
PARAMS = EvaluationParams(consistency_pairs=10)


def rows(variant, margins):
    ids = [f"p{n}" for n in range(len(margins))]
    zero = [0.0] * len(margins)
    return pa.table([[variant] * len(ids), ids, margins, zero], schema=CONSISTENCY)


def test_figures_by_hand():
    table = pa.concat_tables(
        [rows(AS_IT_IS, [1.0, -1.0, 3.0, 1.0]), rows("other", [1.0, 1.0, 3.0, -1.0])]
    )
    (row,) = consistency(table)
    assert (row["variant"], row["pairs"], row["flipped"]) == ("other", 4, 0.5)
    assert row["accuracy"] == 0.75
    assert row["moved"] == pytest.approx(1 / 2**0.5)
    assert lines([row]) == [
        "- Consistency (other): 50.0% of 4 pairs change their order; accuracy 75.0."
    ]


def test_a_constant_model_moves_nothing():
    table = pa.concat_tables([rows(AS_IT_IS, [0.0, 0.0]), rows("other", [0.0, 0.0])])
    (row,) = consistency(table)
    assert (row["flipped"], row["moved"], row["accuracy"]) == (0, None, 0.5)


def test_wordings_keep_the_question_and_the_answers():
    prompts = [
        [{"role": "user", "content": "Q1"}, {"role": "assistant", "content": "A"}]
    ]
    prompts[0].append({"role": "user", "content": "Q2"})
    found = {name: rest for name, *rest in variants(prompts, ["yes"], ["no"])}
    assert set(found) == {AS_IT_IS, *PARAPHRASES, TRAILING_SPACE, SWAPPED}
    for asked, one, other in found.values():
        assert asked[0][:2] == prompts[0][:2]
        assert "Q2" in asked[0][2]["content"]
        assert {one[0].strip(), other[0].strip()} == {"yes", "no"}
    assert found[SWAPPED][1:] == [["no"], ["yes"]]
    assert prompts[0][2]["content"] == "Q2"


def test_a_real_model(reward_models, labeled):
    """Our encoding strips white space, and packing does not depend on the order."""
    found = consistency_of(reward_models[0], labeled, PARAMS, REWARD.scoring, INLINE)
    by_name = {row["variant"]: row for row in found}
    assert all(row["pairs"] == 10 for row in found)
    assert by_name[SWAPPED]["flipped"] == 0
    assert by_name[SWAPPED]["moved"] == pytest.approx(0, abs=1e-4)
    assert all(by_name[name]["moved"] > 1e-3 for name in PARAPHRASES)
    assert by_name[TRAILING_SPACE]["accuracy"] == by_name[SWAPPED]["accuracy"]


def test_no_pairs_no_figures(reward_models, labeled):
    params = EvaluationParams(consistency_pairs=0)
    assert consistency_of(reward_models[0], labeled, params, REWARD, INLINE) == []
