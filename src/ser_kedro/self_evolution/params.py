"""Parameters of the loop."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ser_kedro.training.committee_params import CommitteeParams


class SelectionParams(BaseModel):
    """Which pairs a loop learns from; the defaults of the thresholds are the paper's.

    Attributes:
        status_rule: ``count`` decides one learning status for the whole loop by the
            number of pairs that qualify (paper); ``per_pair`` keeps a pair that
            qualifies for either status (released code); ``schedule`` takes the status
            of loop ``k`` from ``schedule``; ``quantile`` keeps the share ``quantile``
            of the pool that the model is surest about; ``probability`` keeps a pair
            whose preferred response is the better one with a probability above
            ``tau_preferred`` (as SSRM does).
        schedule: Status (1 or 2) of each loop; the last one holds for all later ones.
        tau_high: Status 1: the preferred response's probability is above it.
        tau_low: Status 1: the other response's probability is below it.
        tau_delta: Status 2: the probabilities differ by at least it.
        tau_preferred: See ``status_rule: probability``.
        quantile: See ``status_rule: quantile``; in [0, 1].
        balance: Take equally many pairs, the surest ones, from each side: by
            ``length`` those whose preferred response is the longer one and the others,
            by ``source`` those of each source. ``none`` takes all that qualify.
        min_share: Share of the loop's pool that must qualify for a status.
        min_count: Pairs that must qualify whatever the share says.
        labels: ``soft`` self-labels, the calibrated probability that the preferred
            response is the better one; or ``hard`` ones (paper).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    status_rule: Literal["count", "per_pair", "schedule", "quantile", "probability"] = (
        "count"
    )
    schedule: tuple[Literal[1, 2], ...] = (1, 1, 2)
    tau_high: float = Field(0.55, ge=0.5, le=1)
    tau_low: float = Field(0.45, ge=0, le=0.5)
    tau_delta: float = Field(0.3, ge=0, le=1)
    tau_preferred: float = Field(0.8, ge=0.5, le=1)
    quantile: float = Field(0.3, ge=0, le=1)
    balance: Literal["none", "length", "source"] = "none"
    min_share: float = Field(0.05, ge=0, le=1)
    min_count: int = Field(16, ge=1)
    labels: Literal["hard", "soft"] = "soft"

    @model_validator(mode="after")
    def _schedule_given(self) -> Self:
        if self.status_rule == "schedule" and not self.schedule:
            raise ValueError("status_rule=schedule needs a schedule")
        return self


class EvolutionParams(SelectionParams):
    """How a reward model evolves on pairs without labels.

    Attributes:
        labeller: Who labels the pool: the last loop's reward ``model`` (paper), or a
            ``committee`` of views of the start model, fitted on the human labels.
        committee: How that committee is fitted, and whether it learns from the pool.
        keep_committee: When the committee itself is kept, with which only our own code
            scores: ``unless_worse`` on unseen labels than the best loop's model, by
            more than one standard error; ``if_better``, by the rule that compares
            loops; or ``never``.
        memory: Earlier selections to train on too: the ``previous`` loop's,
            ``D_n ∪ D_(n-1)`` (paper), ``all`` of them, or ``none``.
        keep_seed_labels: Train on the human labels in every loop.
        start: What each loop trains on from: the ``sft`` model with a new head, the
            ``seed`` model, or the ``previous`` loop's (paper).
        epochs: Passes of each loop's training; ``None``: as the seed model's.
        dropout: Of each loop's training (a noisy student); ``None``: as the seed's.
        average: Of the loop's model: ``loops`` takes the mean of its weights and those
            it started from, ``voters`` the mean of all voters' (WARM, Ramé et al.,
            2024), ``none`` leaves it.
        max_loops: Loops at most; ``None``: as many as the graph has.
        folds: Of the human labels, where none is held out (cross-fitting).
        patience: Loops in a row without gain after which the loop has converged.
        standard_errors: The kept model changes only when the paired difference in
            validation log-loss favours the newer one by more than so many standard
            errors.
        collapse_standard_errors: So many standard errors worse is a collapse.
        plain: Where labels are held out, train a model on all human labels as well,
            without evolution: what the run is compared with. Where none is, loop 0 is
            that model.
        refit: Train the model of the kept loop once more at the end, on all human
            labels, those of the validation pairs too; its temperature stays that of
            the kept one. Where none is held out there is nothing to add.
    """

    labeller: Literal["model", "committee"] = "model"
    committee: CommitteeParams = CommitteeParams()
    keep_committee: Literal["never", "if_better", "unless_worse"] = "unless_worse"
    memory: Literal["none", "previous", "all"] = "previous"
    keep_seed_labels: bool = True
    start: Literal["previous", "seed", "sft"] = "sft"
    epochs: float | None = Field(None, gt=0)
    dropout: float | None = Field(None, ge=0, lt=1)
    average: Literal["none", "loops", "voters"] = "none"
    max_loops: int | None = Field(None, ge=1)
    folds: int = Field(default=5, ge=2)
    patience: int = Field(2, ge=1)
    standard_errors: float = Field(0.0, ge=0)
    collapse_standard_errors: float = Field(2.0, gt=0)
    plain: bool = True
    refit: bool = False

    @property
    def selection(self) -> SelectionParams:
        """Return what a loop's selection depends on."""
        names = SelectionParams.model_fields
        return SelectionParams(**{name: getattr(self, name) for name in names})

    def last_loop(self, graph: int) -> int:
        """Return the number of the last loop that may run of the ``graph`` ones."""
        return min(self.max_loops or graph, graph)
