"""Whether SFT trains the model that was given or passes it on, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from ser_kedro.errors import ModelError
from ser_kedro.models.params import Kind, ModelParams, SftWhen
from ser_kedro.models.template import ChatTemplate

_PASSED_ON: dict[Kind, str] = {
    "encoder": "an encoder has nothing to fine-tune; its weights are the start",
    "reward_model": "a reward model is kept with its head",
}


@dataclass(frozen=True)
class StartingPoint:
    """What SFT does with a model.

    Attributes:
        trained: SFT trains it; else it is passed on as it is.
        reason: Why.
    """

    trained: bool
    reason: str

    def __str__(self) -> str:
        """Say it in a sentence, without its full stop."""
        return f"SFT {'trains it' if self.trained else 'is skipped'}: {self.reason}"


def starting_point(
    model: ModelParams,
    kind: Kind,
    when: SftWhen,
    by_template: Callable[[], StartingPoint],
) -> StartingPoint:
    """Decide whether SFT trains a model.

    Args:
        model: Which model.
        kind: What it is.
        when: What the parameters say.
        by_template: Tells an instruct model from a base model, as
            ``judge_template``; asked only where that decides.

    Raises:
        ModelError: If ``when`` asks for what cannot be.
    """
    check_when(model, kind, when)
    if model.scratch is not None:
        return StartingPoint(True, "a model from scratch knows nothing yet")
    if kind != "language_model":
        return StartingPoint(False, _PASSED_ON[kind])
    if when != "auto":
        return StartingPoint(when == "always", f"sft.when={when}")
    return by_template()


def check_when(model: ModelParams, kind: Kind, when: SftWhen) -> None:
    """Refuse to train what has no language head, and to pass on random weights.

    Raises:
        ModelError: If ``when`` asks for that.
    """
    if model.scratch is not None and when == "never":
        raise ModelError(
            f"sft.when=never: {model.name} is a model from scratch, whose weights are"
            " random until SFT has trained them; leave sft.when at auto"
        )
    if kind != "language_model" and when == "always":
        what = "an encoder" if kind == "encoder" else "a reward model"
        raise ModelError(
            f"sft.when=always: {model.name} is {what}, which SFT cannot train; leave"
            " sft.when at auto"
        )


def judge_template(tokenizer: Any, ends: Collection[str]) -> StartingPoint:
    """Tell an instruct model from a base model by its chat template.

    What was trained on chats stops where its template closes an answer. A base model
    may come with a template too (Qwen), but stops elsewhere. Where it cannot be told,
    the model is trained.

    Args:
        tokenizer: The model's.
        ends: Texts of the tokens at which the model stops.
    """
    if not tokenizer.chat_template:
        return StartingPoint(True, "a base model, since it has no chat template")
    closing = ChatTemplate(tokenizer).closing()
    if closing is None:
        return StartingPoint(
            True, "its chat template does not show how an answer is closed"
        )
    # The longest first: one token may begin with another.
    for end in sorted(ends, key=len, reverse=True):
        if end and closing.startswith(end):
            return StartingPoint(
                False, f"an instruct model, which closes its answers by {end}"
            )
    return StartingPoint(
        True,
        "a base model, since it does not stop where its chat template closes an"
        f" answer (it stops at {', '.join(sorted(ends)) or 'no token'})",
    )
