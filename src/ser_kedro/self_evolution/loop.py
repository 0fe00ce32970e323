"""The loop of self-evolution as one object: what its steps need, and the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ser_kedro.launch.executor import run
from ser_kedro.launch.params import INLINE, LauncherParams
from ser_kedro.models.calibration import Calibration, log_losses, validation_rewards
from ser_kedro.models.scoring import score_pairs
from ser_kedro.self_evolution.crossfit import (
    crossfits,
    cut_into_folds,
    judged_unseen,
)
from ser_kedro.self_evolution.params import EvolutionParams
from ser_kedro.self_evolution.progress import (
    Outcome,
    compare,
    judge,
    judge_committee,
    judge_untrained,
)
from ser_kedro.self_evolution.refit import RefitJob
from ser_kedro.self_evolution.selection import SelectJob
from ser_kedro.self_evolution.state import (
    CO_TRAINED,
    COMMITTEE,
    PLAIN,
    EvolutionData,
    EvolutionState,
    LoopRecord,
    add,
    advance,
    after_loops,
    begin,
    keep,
    skip,
)
from ser_kedro.self_evolution.status import Status
from ser_kedro.self_evolution.vote import VoteJob
from ser_kedro.self_evolution.voters import (
    seed_model,
    train_voters,
    voters_of,
    without_voters,
)
from ser_kedro.store.references import (
    NOTHING,
    AnyTable,
    ModelRef,
    Nothing,
    SelectionRef,
    TableRef,
)
from ser_kedro.training.average_job import AverageJob
from ser_kedro.training.params import RewardParams
from ser_kedro.training.reward_model import calibrate_ready
from ser_kedro.training.train_committee import train_committee

Selected = tuple[SelectionRef | Nothing, TableRef | Nothing]


def _unchanged(selection: SelectionRef) -> SelectionRef:
    return selection


@dataclass(frozen=True)
class EvolutionLoop:
    """Self-evolution on some data under some parameters.

    The nodes of the pipeline and the ablations call the same methods. A step that a
    stopped loop does not need returns ``NOTHING``, and the next one passes that on.
    Nothing here knows the labels of the pool.

    Attributes:
        data: The tables and the model that the evolution starts from.
        params: How the loop selects, learns and decides.
        reward: How reward models are trained and applied.
        seed: Of the training of the seed model; each loop has its own after it.
        max_loops: Loops at most.
        launcher: How jobs run.
        texts: Tables that hold the texts of all human labels, where the data have a
            part of them; what a frozen model reads of them is computed once.
    """

    data: EvolutionData
    params: EvolutionParams
    reward: RewardParams
    seed: int
    max_loops: int
    launcher: LauncherParams = INLINE
    texts: tuple[TableRef, ...] = ()

    def train(self, *pairs: AnyTable, **changes: Any) -> ModelRef:
        """Train a reward model from the SFT model on labelled tables.

        Args:
            pairs: The tables.
            changes: Of the reward parameters.
        """
        return train_voters(
            start=self.data.sft_model,
            pairs=pairs,
            validation=self.unseen,
            params=self.reward.model_copy(update=changes),
            seed=self.seed,
            launcher=self.launcher,
            pool=self.data.unlabeled_pairs,
        )

    def seed_model(self) -> ModelRef:
        """Return the model of loop 0, trained on the human labels alone."""
        return seed_model(
            start=self.data.sft_model,
            labeled=self.data.labeled_pairs,
            validation=self.data.validation_pairs,
            params=self.reward,
            folds=self.params.folds,
            seed=self.seed,
            launcher=self.launcher,
            texts=self.texts,
            pool=self.data.unlabeled_pairs,
        )

    @property
    def crossfits(self) -> bool:
        """No label is held out: each is judged by a model that has not seen it."""
        return crossfits(self.data.validation_pairs)

    @property
    def unseen(self) -> TableRef:
        """What trainings calibrate on; when cross-fitting, that is replaced later."""
        data = self.data
        return data.labeled_pairs if self.crossfits else data.validation_pairs

    @property
    def _human_texts(self) -> tuple[TableRef, ...]:
        return self.texts or (self.data.labeled_pairs, self.unseen)

    def _judged_unseen(self, model: ModelRef, loop: int) -> ModelRef:
        """Return a loop's model with what models of the folds say of the labels."""
        if not self.crossfits:
            return model
        models = [fold.model_of(loop) for fold in self._folds()]
        return judged_unseen(model, models, self.reward, self.launcher)

    def _folds(self) -> list[EvolutionLoop]:
        """Return the same evolution once for each fold, without the fold's labels.

        A control's folds are no controls: they see no truth about the pool.
        """
        folds = cut_into_folds(
            self.data.labeled_pairs, self.params.folds, self.seed, self.launcher
        )
        return [
            EvolutionLoop(
                data=self.data.model_copy(
                    update={"labeled_pairs": rest, "validation_pairs": held}
                ),
                params=self.params,
                reward=self.reward,
                seed=self.seed,
                max_loops=self.max_loops,
                launcher=self.launcher,
                texts=(self.data.labeled_pairs,),
            )
            for rest, held in folds
        ]

    def model_of(self, loop: int) -> ModelRef:
        """Return the model of a loop, whatever the ones before it were worth."""
        state = self.begin(self.seed_model())
        for number in range(1, loop + 1):
            scores = self.self_label(state)
            selection, remaining = self.select(state, scores)
            if isinstance(selection, Nothing) or selection.status == Status.STOP:
                break  # nothing to learn from, now or later
            assert isinstance(remaining, TableRef)
            record = LoopRecord(
                loop=number,
                status="-",
                pool=state.pool_left,
                selected=0,
                pool_left=1.0,
                outcome=Outcome.NO_GAIN,
                model=self.retrain(state, selection),
                selection=selection,
                remaining=remaining,
            )
            state = advance(state, record, last_loop=loop + 1)
        return state.model

    def begin(self, seed_model: ModelRef) -> EvolutionState:
        """Return the state before loop 1."""
        return begin(self.data, seed_model)

    def run(
        self, changed: Callable[[SelectionRef], SelectionRef] = _unchanged
    ) -> EvolutionState:
        """Run the loops one after the other, outside of Kedro, on the same store.

        Args:
            changed: What becomes of a selection before a model learns from it.
        """
        state = self.begin(self.seed_model())
        for _ in range(self.max_loops):
            if state.stopped:
                break
            scores = self.self_label(state)
            selection, remaining = self.select(state, scores)
            if isinstance(selection, SelectionRef):
                selection = changed(selection)
            state = self.learn(state, scores, selection, remaining)
        return state

    def learn(
        self,
        state: EvolutionState,
        scores: TableRef | Nothing,
        selection: SelectionRef | Nothing,
        remaining: TableRef | Nothing,
    ) -> EvolutionState:
        """Retrain on a selection and judge what came of it."""
        model = self.retrain(state, selection)
        return self.judge_progress(state, model, scores, selection, remaining)

    def self_label(self, state: EvolutionState) -> TableRef | Nothing:
        """Score what is left of the pool with the labeller, or with its voters."""
        if state.stopped:
            return NOTHING
        voters = voters_of(self.labeller(state))
        pool, scoring = self.data.unlabeled_pairs, self.reward.scoring
        scores = tuple(
            score_pairs(voter, pool, scoring, self.launcher, state.remaining)
            for voter in voters
        )
        if len(voters) == 1:
            return scores[0]
        job = VoteJob(scores=scores, calibrations=tuple(map(Calibration.of, voters)))
        return run(job, self.launcher)["scores"]

    def labeller(self, state: EvolutionState) -> ModelRef:
        """Return the model that labels the pool in the loop after a state."""
        return self.committee() if self.params.labeller == "committee" else state.model

    def committee(self, *more: TableRef, **changes: Any) -> ModelRef:
        """Fit a committee of views of the start model on the human labels.

        Args:
            more: Tables of human labels beside ``labeled_pairs``.
            changes: Of the committee's parameters.
        """
        more = tuple(table for table in more if table.rows)  # none are held out
        return train_committee(
            start=self.data.sft_model,
            pairs=(self.data.labeled_pairs, *more),
            pool=self.data.unlabeled_pairs,
            params=self.params.committee.model_copy(update=changes),
            reward=self.reward,
            seed=self.seed,
            launcher=self.launcher,
            texts=(*self.texts, *more) if self.texts else None,
        )

    def judged_committee(self) -> ModelRef:
        """Return the committee with what it says of labels that it has not seen.

        These are the labels that judge every loop's model, in the same order.
        """
        committee = self.committee()
        if self.crossfits:
            models = [fold.judged_committee() for fold in self._folds()]
            return judged_unseen(committee, models, self.reward, self.launcher)
        return calibrate_ready(
            committee,
            self.data.validation_pairs,
            self.reward,
            self.launcher,
            texts=self.texts[0] if self.texts else None,  # a fold's
        )

    def select(self, state: EvolutionState, scores: TableRef | Nothing) -> Selected:
        """Select the pairs that the labeller is confident about, with its labels.

        Returns:
            The selection, and the rows that stay in the pool.
        """
        if isinstance(scores, Nothing):
            return NOTHING, NOTHING
        labeller = self.labeller(state)
        # Votes are calibrated already.
        alone = not labeller.voters
        job = SelectJob(
            scores=scores,
            pairs=self.data.unlabeled_pairs,
            loop=state.loop + 1,
            calibration=Calibration.of(labeller) if alone else Calibration(),
            params=self.params.selection,
        )
        outputs = run(job, self.launcher)
        return outputs["selection"], outputs["remaining"]

    def retrain(
        self, state: EvolutionState, selection: SelectionRef | Nothing
    ) -> ModelRef:
        """Train on the selection, earlier ones and the human labels, as asked.

        Returns:
            The new model; the last one where there is nothing to learn from.
        """
        if isinstance(selection, Nothing) or selection.status == Status.STOP:
            return state.model
        pairs: list[AnyTable] = [selection, *self._earlier(state)]
        if self.params.keep_seed_labels:
            pairs.append(self.data.labeled_pairs)
        model = self._retrain(state, tuple(pairs), self.reward.voters)
        return self._judged_unseen(model, state.loop + 1)

    def judge_progress(
        self,
        state: EvolutionState,
        model: ModelRef,
        scores: TableRef | Nothing,
        selection: SelectionRef | Nothing,
        remaining: TableRef | Nothing,
    ) -> EvolutionState:
        """Decide what came of the loop, whether to go on, and which model to keep.

        Args:
            state: The state before the loop.
            model: From ``retrain``.
            scores: From ``self_label``.
            selection: From ``select``, perhaps changed.
            remaining: From ``select``.
        """
        if (
            isinstance(scores, Nothing)
            or isinstance(selection, Nothing)
            or isinstance(remaining, Nothing)
        ):
            return skip(state)
        trained = selection.status != Status.STOP
        rewards = np.concatenate(validation_rewards(model))
        comparison = None
        if not trained:
            outcome = judge_untrained(rewards, state.pool_left)
        else:
            best, new = _validation_losses(state.best), _validation_losses(model)
            comparison = compare(best, new)
            outcome = judge(
                rewards=rewards,
                best_losses=best,
                new_losses=new,
                without_gain=state.without_gain,
                params=self.params,
            )
        record = LoopRecord(
            loop=state.loop + 1,
            status=selection.status,
            pool=state.pool_left,
            selected=selection.rows,
            pool_left=remaining.rows / max(1, state.pool_size),
            outcome=outcome,
            difference=comparison.difference if comparison else None,
            standard_error=comparison.standard_error if comparison else None,
            model=model if trained else None,
            scores=scores,
            selection=selection,
            remaining=remaining,
        )
        return advance(state, record, last_loop=self.max_loops)

    def finish(self, state: EvolutionState) -> EvolutionState:
        """Return the state with the model that is kept in the end.

        The committee that labelled is a candidate as well, and gets a record of its
        own.
        """
        wanted = self.params.keep_committee != "never"
        if self.params.labeller == "committee" and wanted:
            state = self._consider(state, self.judged_committee())
        return self.refit(state) if self.params.refit else state

    def _consider(self, state: EvolutionState, committee: ModelRef) -> EvolutionState:
        comparison = compare(
            _validation_losses(state.best), _validation_losses(committee)
        )
        outcome = judge_committee(comparison, self.params)
        record = after_loops(
            state,
            CO_TRAINED if committee.metrics.get("co_trained") else COMMITTEE,
            outcome,
            committee,
            difference=comparison.difference,
            standard_error=comparison.standard_error,
        )
        return add(state, record) if outcome is Outcome.NO_GAIN else keep(state, record)

    def compared(self, state: EvolutionState) -> EvolutionState:
        """Return the state with a model of all human labels beside, not evolved.

        It is never kept: no label is left to judge it. Where none is held out, loop 0
        is that model.
        """
        if self.crossfits or not self.params.plain:
            return state
        human = (self.data.labeled_pairs, self.data.validation_pairs)
        job = RefitJob(model=self.train(*human, voters=1), held_out=state.seed_model)
        model = run(job, self.launcher)["model"]
        return add(state, after_loops(state, PLAIN, "control", model))

    def refit(self, state: EvolutionState) -> EvolutionState:
        """Train the kept loop's model again, on the pairs too that chose it.

        Returns:
            The state with that model as the best, in a record of its own, whose status
            names the loop; the state itself where no pair chose it alone.
        """
        if self.crossfits:
            return state
        loop = state.best_loop
        human = (self.data.labeled_pairs, self.data.validation_pairs)
        # Voters label, and nothing is labelled any more; an average needs them all.
        voters = self.reward.voters if self.params.average == "voters" else 1
        if state.best.kind == "committee":
            trained = self.committee(self.data.validation_pairs)
        elif (selection := state.records[loop].selection) is None:
            trained = self.train(*human, voters=voters)
        else:
            before = state.before(loop)
            earlier = self._earlier(before)
            trained = self._retrain(before, (selection, *earlier, *human), voters)
        job = RefitJob(model=trained, held_out=state.best)
        model = run(job, self.launcher)["model"]
        return keep(state, after_loops(state, f"refit {loop}", "refit", model))

    def _retrain(
        self, state: EvolutionState, pairs: tuple[AnyTable, ...], voters: int
    ) -> ModelRef:
        start = {
            "previous": state.model,
            "seed": state.seed_model,
            "sft": self.data.sft_model,
        }[self.params.start]
        changes = {"epochs": self.params.epochs, "dropout": self.params.dropout}
        given = {name: value for name, value in changes.items() if value is not None}
        trained = train_voters(
            start=start,
            pairs=pairs,
            # A selection's pairs are those of the pool, whose features are known.
            texts=(*self._human_texts, self.data.unlabeled_pairs),
            validation=self.unseen,
            params=self.reward.model_copy(update={**given, "voters": voters}),
            # Each loop shuffles anew, and a new head differs from the last one.
            seed=self.seed + state.loop + 1,
            launcher=self.launcher,
            pool=self.data.unlabeled_pairs,
        )
        if self.params.average == "none":
            return trained
        average = AverageJob(
            models=voters_of(trained)
            if self.params.average == "voters"
            else (state.model, trained),
            validation=self.unseen,
            params=without_voters(self.reward),
        )
        mean = run(average, self.launcher)["model"]
        metrics = {**trained.metrics, **mean.metrics}
        return mean.model_copy(update={"metrics": metrics, "voters": trained.voters})

    def _earlier(self, state: EvolutionState) -> list[SelectionRef]:
        """Return the selections of earlier loops to learn from too, the last first."""
        taken = [r.selection for r in reversed(state.records) if r.selection]
        return {"none": [], "previous": taken[:1], "all": taken}[self.params.memory]


def _validation_losses(model: ModelRef) -> np.ndarray:
    chosen, rejected = validation_rewards(model)
    return log_losses((chosen - rejected) / Calibration.of(model).temperature)
