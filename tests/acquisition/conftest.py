"""A pool of two prompts' pairs, with the scores of voters."""

import pytest

from ser_kedro.models.scores import SCORES
from ser_kedro.preferences.schema import UNLABELED


@pytest.fixture
def pool_rows():
    """Six pairs in three groups, the first with a dialogue as its prompt."""
    turns = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Yes?")]
    rows = []
    for number in range(6):
        said = [*(turns if not number else []), ("user", f"[{number}] Human: why?")]
        rows.append(
            {
                "pair_id": f"{number:032x}",
                "group": f"g{number // 2}",
                "prompt": [{"role": role, "content": text} for role, text in said],
                "response_a": f' {{"a": {number}}}\n=1+1, "quoted"',
                "response_b": f"<script>b{number}</script>  ",
                "source": "pool",
            }
        )
    return rows


@pytest.fixture
def pool(table, pool_rows):
    return table("pool", pool_rows, UNLABELED)


@pytest.fixture
def scores(table):
    """Make a table of scores: pair by pair, the reward of a less that of b."""

    def make(name, margins):
        rows = [
            {"row": n, "pair_id": f"{n:032x}", "reward_a": each, "reward_b": 0.0}
            for n, each in enumerate(margins)
        ]
        return table(name, rows, SCORES)

    return make
