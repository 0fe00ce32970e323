"""Views of packed and plain rows are those of each response read alone."""

import numpy as np
import pytest
import torch

from ser_kedro.models import pack
from ser_kedro.models.encode import EncodedPair
from ser_kedro.models.params import View
from ser_kedro.models.views import ViewScorer
from tests.models.test_pack import PACKED, PLAIN, random_model

VIEWS = (View(depth=0.5), View(depth=1.0, pool="last"), View(depth=1.0))
PAIRS = [
    EncodedPair([5, 6, 7], [8, 9], [10, 11, 12, 13], overlong=False),
    EncodedPair([5, 6, 7], [8, 9], [14], overlong=False),  # shares a row
    EncodedPair([4], [9, 8, 7], [3, 3], overlong=False),
]


class _Encoder:
    class tokenizer:  # noqa: N801
        pad_token_id = 0


def alone(model, prompt, tail):
    """The views of one response, computed in the plainest way."""
    with torch.no_grad():
        found = model.base_model(
            torch.tensor([prompt + tail]), output_hidden_states=True
        )
    middle = found.hidden_states[round(0.5 * (len(found.hidden_states) - 1))][0]
    last = found.last_hidden_state[0]
    inside = slice(len(prompt), None)
    return torch.cat([middle[inside].mean(0), last[-1], last[inside].mean(0)]).numpy()


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize("config", [PACKED["llama"], PLAIN["bert"]])
def test_views_are_those_of_each_response_alone(config, wanted):
    model = random_model(config).eval()
    packing = pack.enable(model, wanted=wanted)
    scorer = ViewScorer(model, _Encoder, packing, tokens=64, views=VIEWS)

    found = scorer.outputs(PAIRS)

    # In front is what the head gives.
    rewards, found = np.split(found, [1], axis=2)
    ids = [pair.prompt + pair.a for pair in PAIRS]
    with torch.no_grad():
        given = [model(torch.tensor([row])).logits.item() for row in ids]
    np.testing.assert_allclose(rewards[:, 0, 0], given, atol=1e-5, rtol=1e-4)
    expected = [
        [alone(model, pair.prompt, tail) for tail in (pair.a, pair.b)] for pair in PAIRS
    ]
    np.testing.assert_allclose(found, np.array(expected), atol=1e-5, rtol=1e-4)
    assert packing.exact is (wanted and config is PACKED["llama"])
