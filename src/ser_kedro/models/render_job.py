"""The job that renders all data once, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, TypedDict

from ser_kedro.models.params import ModelParams
from ser_kedro.store.job import Job
from ser_kedro.store.references import DocumentRef, TableRef


class RenderOutputs(TypedDict):
    """What rendering found."""

    template_report: DocumentRef


class RenderJob(Job[RenderOutputs]):
    """Render every prompt with its responses as the model's template does.

    The tokenizer is loaded, and no weight.

    Attributes:
        model: Whose tokenizer.
        parts: Tables of pairs or of prompts, by name.
        vocabulary: The pairs that a new tokenizer is learnt of: ``sft_pairs``.
    """

    stage: ClassVar[str] = "template"
    libraries: ClassVar[tuple[str, ...]] = ("transformers", "tokenizers", "jinja2")

    model: ModelParams
    parts: dict[str, TableRef]
    vocabulary: TableRef

    @property
    def title(self) -> str:
        """What it does, for the log."""
        rows = sum(table.rows for table in self.parts.values())
        return f"Render {rows:,} prompts with the template of {self.model.name}"

    def work(self, workspace: Path) -> RenderOutputs:
        """Write ``template_report``: counts, and what the template refuses."""
        from ser_kedro.models.render import render_parts

        report = render_parts(self.model, self.parts, self.vocabulary, workspace)
        return {"template_report": report}
