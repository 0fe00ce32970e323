"""The comparison of policies: what is arithmetic in it, and its page."""

from types import SimpleNamespace

import numpy as np
import pytest

from ser_kedro.ablations import policy
from ser_kedro.ablations.page.render import render
from ser_kedro.errors import ParameterError


def history(*kl):
    return [{"step": 5 * n, "held_out_kl": value} for n, value in enumerate(kl)]


def test_policies_are_matched_in_the_second_half_of_their_runs():
    histories = {
        "near": history(0, 1, 2, 3, 4, 5),  # second half: 3, 4, 5, median 4
        "far": history(0, 8, 9, 6, 8, 10),  # second half: 6, 8, 10, median 8
    }

    # The common KL is 6: the first ends at 5, the second was at 6 in step 15.
    assert policy.matched_steps(histories) == {"near": 25, "far": 15}


def test_differences_are_paired_by_prompt():
    rng = np.random.default_rng(0)
    names = ("sft", "kept", "seed", "evolved", "full")
    golds = []
    for _ in range(3):
        prompt = 10 * rng.normal(size=50)
        golds.append({name: prompt + n for n, name in enumerate(names)})

    found = policy.differences(golds, 0.95)

    assert found["kept − sft"]["value"] == pytest.approx(1)
    assert found["full − evolved"]["value"] == pytest.approx(1)
    # What the prompts have in common cancels out.
    for difference in found.values():
        assert difference["high"] - difference["low"] < 1e-6


def test_needs_a_gold_reward():
    source = SimpleNamespace(known_world=None)
    settings = SimpleNamespace(
        ablations=SimpleNamespace(source=source),
        comparison=SimpleNamespace(seeds=(0,)),
    )
    with pytest.raises(ParameterError, match="policy_comparison: needs the demo world"):
        policy.compare_policies(settings)


NAMES = ("sft", "kept", "seed", "evolved", "full")


def found():
    return {
        "prompts": 9,
        "seeds": [
            {
                "seed": 4,
                "loop_kept": False,
                "gold": dict.fromkeys(NAMES, 0.25),
                "kl": dict.fromkeys(NAMES, 7.0),
                "tokens": dict.fromkeys(NAMES, 12.0),
            }
        ],
        "differences": {
            f"{one} − {other}": {"value": 0.5, "low": -0.25, "high": 1.25}
            for one, other in policy.DIFFERENCES
        },
        "overoptimisation": {
            "seed": 4,
            "parameters": {"steps": 300},
            "kl_at_peak": 32.0,
            "point": {
                "step": 10,
                "gold_at_peak": 0.5,
                "gold_at_end": 0.0,
                "proxy_at_peak": 0.7,
                "proxy_at_end": 0.9,
                "found": True,
            },
        },
    }


def test_the_page_says_what_was_found():
    text = render(
        "policy.md.jinja", found=found(), command="make policy", confidence=0.95
    )

    assert "Written by `make policy`" in text
    assert "| 4 | 0.25 | 0.25 | 7.0 | 12.0 | 12.0 |" in text
    assert "no: evolved is the seed RM" in text
    assert "Gain in gold reward: +0.50 [-0.25, +1.25]." in text
    assert text.count("| +0.50 [-0.25, +1.25] |") == len(policy.DIFFERENCES)
    assert "highest at step 10 (KL 32 nats), 0.50, and 0.00 at the end" in text
    assert "the run is over-optimised from there on" in text


def test_the_page_claims_no_fall_that_was_not_found():
    values = found()
    values["overoptimisation"]["point"]["found"] = False

    text = render("policy.md.jinja", found=values, command="c", confidence=0.9)

    assert "no fall beyond the noise was found" in text
    assert "over-optimised" not in text
