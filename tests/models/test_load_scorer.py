"""A committee scores single texts as it scored tables of them."""

import numpy as np
import pytest
import torch

from ser_kedro.acquisition.params import AcquisitionParams
from ser_kedro.acquisition.requests import label_requests
from ser_kedro.launch.params import INLINE
from ser_kedro.models.load_scorer import load_scorer
from ser_kedro.models.params import View
from ser_kedro.models.scorer import Scorer
from ser_kedro.models.scoring import score_by_members, score_pairs
from ser_kedro.self_evolution.voters import train_voters
from ser_kedro.store.tables import read_table
from ser_kedro.training.committee_params import CommitteeParams
from ser_kedro.training.params import RewardParams
from ser_kedro.training.train_committee import train_committee

REWARD = RewardParams(
    learning_rate=1e-2,
    epochs=1,
    batch_size=8,
    scheduler="constant",
    max_length=256,
    score_tokens=2048,
    views=(View(depth=0.5), View(depth=1.0, pool="last"), View(depth=1.0)),
)


@pytest.fixture
def committee(sft_model, labeled):
    return train_committee(
        start=sft_model,
        pairs=(labeled,),
        pool=None,
        params=CommitteeParams(folds=2),
        reward=REWARD,
        seed=0,
        launcher=INLINE,
    )


def test_its_rewards_of_texts_are_those_of_the_table(committee, labeled):
    rows = read_table(labeled).to_pylist()
    prompts = [row["prompt"] for row in rows]

    scorer = load_scorer(committee.location, REWARD.scoring)
    found = [
        scorer.text_rewards(prompts, [row[side] for row in rows])
        for side in ("chosen", "rejected")
    ]

    scores = read_table(score_pairs(committee, labeled, REWARD.scoring, INLINE))
    expected = [scores["reward_a"].to_numpy(), scores["reward_b"].to_numpy()]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.std(expected) > 0.1


@pytest.mark.parametrize("kind", ["committee", "head", "trained"])
def test_in_bf16_it_rounds_as_what_it_was_fitted_to(
    committee, sft_model, labeled, kind
):
    """Under autocast, as features are; any other model computes in bf16 throughout."""
    model = committee
    if kind != "committee":
        model = train_voters(
            start=sft_model,
            pairs=(labeled,),
            validation=labeled,
            params=REWARD.model_copy(
                update={"trainable": "head" if kind == "head" else "full"}
            ),
            seed=0,
            launcher=INLINE,
        )
    half = REWARD.scoring.model_copy(update={"precision": "bf16"})
    weights = load_scorer(model.location, half).model.get_input_embeddings().weight
    assert weights.dtype == (torch.bfloat16 if kind == "trained" else torch.float32)


def test_an_empty_response_has_a_reward(committee, train_rows):
    scorer = load_scorer(committee.location, REWARD.scoring)

    (reward,) = scorer.text_rewards([train_rows[0]["prompt"]], [""])

    assert np.isfinite(reward)


def test_its_members_votes_have_the_committees_as_their_mean(committee, labeled):
    whole = read_table(score_pairs(committee, labeled, REWARD.scoring, INLINE))

    members = score_by_members(committee, labeled, REWARD.scoring, INLINE)

    votes = [read_table(each)["reward_a"].to_numpy() for each in members]
    assert len(votes) == len(REWARD.views)
    np.testing.assert_allclose(
        np.mean(votes, 0), whole["reward_a"].to_numpy(), atol=1e-4
    )
    assert np.abs(votes[0] - votes[1]).max() > 0.1


def test_its_members_disagree_about_pairs_to_label(committee, unlabeled):
    params = AcquisitionParams(by="disagreement", count=5, random_share=0.0)

    requests = read_table(
        label_requests(unlabeled, committee, params, REWARD.scoring, 0, INLINE)
    )

    scores = requests["score"].to_pylist()
    assert len(scores) == 5 and scores == sorted(scores, reverse=True)
    assert scores[0] > 0


def test_any_other_model_scores_as_ever(sft_model, train_rows):
    prompt, response = [train_rows[0]["prompt"]], [train_rows[0]["chosen"]]

    found = load_scorer(sft_model.location, REWARD.scoring)

    assert type(found) is Scorer
    plain = Scorer.load(sft_model.location, REWARD.scoring)
    assert found.text_rewards(prompt, response) == plain.text_rewards(prompt, response)
