"""The small jobs of a loop, by their files: no model is trained here."""

import json

import numpy as np
import pytest

from ser_kedro.models.calibration import Calibration, validation_rewards
from ser_kedro.models.fit_calibration import calibrate_model
from ser_kedro.models.scores import SCORES
from ser_kedro.preferences.schema import UNLABELED
from ser_kedro.self_evolution.crossfit_job import CrossfitJob
from ser_kedro.self_evolution.params import SelectionParams
from ser_kedro.self_evolution.refit import RefitJob
from ser_kedro.self_evolution.selection import SelectJob
from ser_kedro.self_evolution.vote import VoteJob, vote
from ser_kedro.store.references import ModelRef
from ser_kedro.store.tables import read_table

# Of pairs 0, 1, ...: the reward of response a, and of response b.
REWARDS = [(3.0, -3.0), (-2.0, 2.5), (0.1, 0.0), (-4.0, 5.0), (1.5, 1.5), (2.0, 1.0)]


@pytest.fixture
def pairs(table):
    """Odd pairs have the longer response a, and come from another source."""
    rows = [
        {
            "pair_id": f"pair-{number}",
            "group": f"group-{number}",
            "prompt": [{"role": "user", "content": f"Question {number}?"}],
            "response_a": f"a{number}" + " and more" * (number % 2),
            "response_b": f"b{number} more",
            "source": ("even", "odd")[number % 2],
        }
        for number in range(len(REWARDS))
    ]
    return table("pairs", rows, UNLABELED)


@pytest.fixture
def scored(table):
    """Put the rewards of some pairs into a table of scores, in that order."""

    def make(rows=range(len(REWARDS)), rewards=REWARDS, name="scores"):
        columns = [
            {
                "row": row,
                "pair_id": f"pair-{row}",
                "reward_a": rewards[row][0],
                "reward_b": rewards[row][1],
            }
            for row in rows
        ]
        return table(name, columns, SCORES)

    return make


@pytest.fixture
def select(pairs, tmp_path):
    def make(scores, calibration=Calibration(), loop=1, **params):
        job = SelectJob(
            scores=scores,
            pairs=pairs,
            loop=loop,
            calibration=calibration,
            params=SelectionParams(**{"min_count": 1, "min_share": 0, **params}),
        )
        outputs = job.work(tmp_path)
        made = read_table(outputs["selection"].model_copy(update={"path": WHERE[0]}))
        left = read_table(outputs["remaining"].model_copy(update={"path": WHERE[1]}))
        return outputs["selection"], made.to_pylist(), left["row"].to_pylist()

    return make


# Relative to the project's root, which is the workspace here.
WHERE = ("selection.arrow", "remaining.arrow")
SURE = {"status_rule": "probability", "tau_preferred": 0.9}


class TestSelection:
    def test_labels_what_it_is_sure_about_and_leaves_the_rest(self, select, scored):
        found, rows, left = select(scored(), **SURE)
        assert (found.status, found.rows) == ("sure", 3)
        assert found.metrics == {"easy": 3, "hard": 3, "needed": 1}
        assert [row["pair_id"] for row in rows] == ["pair-0", "pair-1", "pair-3"]
        assert [row["a_preferred"] for row in rows] == [True, False, False]
        assert [row["chosen"] for row in rows] == ["a0", "b1 more", "b3 more"]
        rejected = ["b0 more", "a1 and more", "a3 and more"]
        assert [row["rejected"] for row in rows] == rejected
        first = {name: rows[0][name] for name in ("group", "prompt", "source")}
        question = [{"role": "user", "content": "Question 0?"}]
        assert first == {"group": "group-0", "prompt": question, "source": "even"}
        # σ(3) and σ(-3)
        both = rows[0]["p_chosen"], rows[0]["p_rejected"]
        assert both == pytest.approx((0.9525741, 0.0474259), abs=1e-6)
        assert rows[1]["p_chosen"] == pytest.approx(0.9241418, abs=1e-6)
        assert left == [2, 4, 5]

    def test_goes_by_calibrated_probabilities(self, select, scored):
        """σ((2 - 1.5) / 0.2) and σ((1 - 1.5) / 0.2): a margin of 1 becomes sure."""
        _, rows, _ = select(scored([5]), Calibration(1.5, 0.2), **SURE)
        both = rows[0]["p_chosen"], rows[0]["p_rejected"]
        assert both == pytest.approx((0.9241418, 0.0758582), abs=1e-6)

    def test_follows_the_rows_of_the_scores(self, select, scored):
        _, rows, left = select(scored([4, 3, 0]), **SURE)
        assert [row["pair_id"] for row in rows] == ["pair-3", "pair-0"]
        assert [row["chosen"] for row in rows] == ["b3 more", "a0"]
        assert left == [4]

    def test_soft_labels_are_the_probability_of_the_preferred_response(
        self, select, scored
    ):
        _, rows, _ = select(scored(), labels="soft", **SURE)
        # σ of the margins 6, 4.5 and 9
        expected = pytest.approx([0.9975274, 0.9890131, 0.9998766], abs=1e-6)
        assert [row["soft_label"] for row in rows] == expected
        _, hard, _ = select(scored(), labels="hard", **SURE)
        assert [row["chosen"] for row in hard] == [row["chosen"] for row in rows]
        assert "soft_label" not in hard[0]

    def test_may_balance_sources(self, select, scored):
        """One sure pair is even, two are odd: the surer of these stays."""
        _, rows, _ = select(scored(), balance="source", **SURE)
        assert [row["pair_id"] for row in rows] == ["pair-0", "pair-3"]

    def test_may_balance_lengths(self, select, scored):
        """All sure labels prefer the shorter response but that of pair 0: none stays.

        Pair 0 prefers ``a0`` to ``b0 more``, which is the shorter one too.
        """
        _, rows, left = select(scored(), balance="length", **SURE)
        assert (rows, left) == ([], [0, 1, 2, 3, 4, 5])
        # Turned round, pair 0 prefers the longer response.
        turned = [REWARDS[0][::-1], *REWARDS[1:]]
        _, rows, _ = select(scored(rewards=turned), balance="length", **SURE)
        assert [row["pair_id"] for row in rows] == ["pair-0", "pair-3"]

    @pytest.mark.parametrize("balance", ["none", "source", "length"])
    def test_of_an_empty_pool_is_empty(self, select, scored, balance):
        found, rows, left = select(scored([]), balance=balance, **SURE)
        assert (found.status, rows, left) == ("stop", [], [])

    def test_the_loop_names_its_status_in_a_schedule(self, select, scored):
        rule = {"status_rule": "schedule", "schedule": (1, 2), "tau_delta": 0.2}
        assert select(scored(), loop=1, **rule)[0].status == "1"
        found, rows, _ = select(scored(), loop=2, **rule)
        assert (found.status, len(rows)) == ("2", 3)


class TestVotes:
    def test_agreed_rewards_are_the_mean_and_a_dispute_is_a_tie(self):
        one = [[1.0, 2.0, 0.0], [0.0, -2.0, 0.0]]
        two = [[3.0, -1.0, 1.0], [1.0, 1.0, 0.0]]
        found = vote(np.array([one, two]))
        assert found.tolist() == [[2.0, 0.0, 0.25], [0.5, 0.0, 0.25]]

    def test_every_voter_counts_by_its_own_calibration(self, scored, tmp_path):
        other = [(10 * a + 7, 10 * b + 7) for a, b in REWARDS]
        tables = scored(), scored(rewards=other, name="other")
        both = (Calibration(0.0, 1.0), Calibration(7.0, 5.0))
        made = VoteJob(scores=tables, calibrations=both).work(tmp_path)["scores"]
        rows = read_table(made).to_pylist()
        # The second voter's calibrated rewards are twice the first's.
        assert [row["reward_a"] for row in rows] == pytest.approx(
            [1.5 * a for a, _ in REWARDS]
        )
        assert [row["reward_b"] for row in rows] == pytest.approx(
            [1.5 * b for _, b in REWARDS]
        )
        assert [row["row"] for row in rows] == [0, 1, 2, 3, 4, 5]
        assert [row["pair_id"] for row in rows] == [f"pair-{n}" for n in range(6)]


@pytest.fixture
def trained(project):
    """Put a model of the store: weights, an adapter, and what it was calibrated on."""

    def make(name, chosen, rejected, offset=None):
        folder = project / "data" / "store" / name / "model"
        folder.mkdir(parents=True)
        (folder / "weights").write_text(f"weights of {name}")
        (folder.parent / "adapter").mkdir()
        (folder.parent / "adapter" / "weights").write_text(f"adapter of {name}")
        both = np.array(chosen, float), np.array(rejected, float)
        metrics = calibrate_model(folder, *both, temperature=True)
        if offset is not None:
            Calibration(offset, 1.0).save(folder)
        return ModelRef(
            kind="reward_model",
            path=str(folder.relative_to(project)),
            fingerprint=name,
            base_model="tiny",
            metrics={"steps": 9, **metrics},
        )

    return make


class TestACrossFitting:
    """Folds have zeros of their own; what they say is told from the model's zero."""

    @pytest.fixture
    def made(self, trained, project, tmp_path):
        model = trained("whole", [9.0], [-9.0], offset=10.0)
        folds = (
            trained("one", [2.0, 1.0], [0.0, 3.0], offset=1.0),
            trained("two", [104.0], [101.0], offset=100.0),
        )
        workspace = project / "new"
        workspace.mkdir()
        job = CrossfitJob(model=model, folds=folds, temperature=False)
        found = job.work(workspace)["model"]
        return job, found.model_copy(update={"path": "new/model"})

    def test_has_the_rewards_of_all_folds_in_their_order(self, made):
        chosen, rejected = validation_rewards(made[1])
        assert chosen.tolist() == [11.0, 10.0, 14.0]
        assert rejected.tolist() == [9.0, 12.0, 11.0]

    def test_is_calibrated_by_these(self, made):
        job, found = made
        assert Calibration.of(found) == Calibration(pytest.approx(67 / 6), 1.0)
        assert found.metrics["validation_accuracy"] == pytest.approx(2 / 3)
        assert (found.metrics["validation_pairs"], found.metrics["steps"]) == (3, 9)
        assert found.fingerprint == job.fingerprint

    def test_has_the_files_of_the_model_and_leaves_that_alone(self, made, project):
        job, found = made
        place = project / "new"
        assert (place / "model" / "weights").read_text() == "weights of whole"
        assert (place / "adapter" / "weights").read_text() == "adapter of whole"
        assert Calibration.of(job.model).offset == 10.0
        assert json.loads((job.model.location / "validation.json").read_text()) == {
            "chosen": [9.0],
            "rejected": [-9.0],
        }

    def test_begins_anew_where_it_was_broken_off(self, made, project):
        job, _ = made
        (project / "new" / "model" / "half").write_text("left over")
        job.work(project / "new")
        assert not (project / "new" / "model" / "half").exists()


def test_a_refit_keeps_its_zero_and_takes_the_temperature_of_the_other(
    trained, project
):
    model = trained("all", [3.0, 5.0], [1.0, 0.0])
    held_out = trained("most", [3.0, 5.0, 0.0], [1.0, 0.0, 1.0])
    workspace = project / "new"
    workspace.mkdir()
    found = RefitJob(model=model, held_out=held_out).work(workspace)["model"]
    placed = found.model_copy(update={"path": "new/model"})
    expected = Calibration.of(held_out).temperature
    assert Calibration.of(placed) == Calibration(2.25, expected)
    assert expected > 2 * Calibration.of(model).temperature
    assert found.metrics == {"steps": 9, "offset": 2.25, "temperature": expected}
    # What the model says of pairs that it has seen says nothing.
    assert not (workspace / "model" / "validation.json").exists()
