"""Whether a model's template can render the data, said once before training."""

from __future__ import annotations

import logging
from typing import Any

from ser_kedro.errors import ModelError
from ser_kedro.launch.executor import run
from ser_kedro.launch.params import LauncherParams
from ser_kedro.models.params import ModelParams
from ser_kedro.models.render_job import RenderJob
from ser_kedro.store.references import TableRef

logger = logging.getLogger(__name__)

# What is said of a count, where it is not 0.
_SAID = {
    "system_turns_merged": "the chat template refuses system turns: merged into the"
    " user turn beside them",
    "repeated_turns_merged": "the chat template refuses consecutive turns of one role:"
    " merged, with a blank line between them",
    "answers_appended": "the chat template changes the prompt when an answer follows:"
    " the prompt is kept as it is without one, and the answer put behind it",
}


def check_rendering(
    parts: dict[str, TableRef],
    vocabulary: TableRef,
    model: ModelParams,
    launcher: LauncherParams,
) -> dict[str, Any]:
    """Render all data, say what was merged, and return the report.

    Args:
        parts: Tables of pairs or of prompts, by name.
        vocabulary: The pairs that a new tokenizer is learnt of.
        model: Whose template.
        launcher: How jobs run.

    Raises:
        ModelError: If the template refuses some dialogue, whatever is merged.
    """
    job = RenderJob(model=model, parts=parts, vocabulary=vocabulary)
    report: dict[str, Any] = run(job, launcher)["template_report"].read()
    prompts = sum(report["prompts"].values())
    for name, words in _SAID.items():
        if count := report[name]:
            logger.warning("%s (%d of %d prompts)", words, count, prompts)
    if report["refused"]:
        raise ModelError(_refusal(model, report, prompts))
    return report


def _refusal(model: ModelParams, report: dict[str, Any], prompts: int) -> str:
    first = report["first_refused"]
    reasons = "; ".join(f"{why} ({n})" for why, n in report["refused"].items())
    name = first.get("pair_id") or first.get("group")
    return (
        f"model={model.name}: its chat template refuses"
        f" {sum(report['refused'].values())} of {prompts} prompts: {reasons}; the first"
        f' is row {first["row"]} of {first["part"]} ({name[:12]}, "{first["prompt"]}")'
        "; take such dialogues out of the data, or give another template as"
        " chat_template in a preset of the model"
    )
