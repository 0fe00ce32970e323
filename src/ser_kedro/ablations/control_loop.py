"""The loop with the truth about its pool, for controls alone."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ser_kedro.ablations.oracle_labels import TrueLabelsJob
from ser_kedro.launch.executor import run
from ser_kedro.self_evolution.loop import EvolutionLoop
from ser_kedro.store.references import TableRef


@dataclass(frozen=True, kw_only=True)
class ControlLoop(EvolutionLoop):
    """A loop from which the truth can be seen.

    Attributes:
        audit_labels: What annotators preferred in the pool.
    """

    audit_labels: TableRef

    def honest(self) -> EvolutionLoop:
        """Return the same loop without the truth."""
        kept = {each.name: getattr(self, each.name) for each in fields(EvolutionLoop)}
        return EvolutionLoop(**kept)

    def true_labels(self, limit: int | None = None) -> TableRef:
        """Return the pool, or the first of its pairs, with human labels."""
        job = TrueLabelsJob(
            pairs=self.data.unlabeled_pairs, audit=self.audit_labels, limit=limit
        )
        return run(job, self.launcher)["labeled"]
