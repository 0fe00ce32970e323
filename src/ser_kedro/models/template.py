"""Chat templates: dialogues that they refuse are merged, and their date is fixed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from jinja2.exceptions import TemplateError

from ser_kedro.errors import ModelError

Messages = Sequence[dict[str, str]]

# An answer that is found again, to see what a template writes around it.
_PROBE = "ser-kedro-answer"
# What a template raises: by its own words, or since it takes a turn for something else.
_REFUSALS = (TemplateError, TypeError, ValueError, KeyError, AttributeError)
_MARK, _END = "{#- ser-kedro: the date -#}", '{{- "" }}'
_CODES = "aAbBcdDeFGHIjmMpSTuUVwWxXyY"
_ON_LINUX = ("%-d", "%-m", "%-H", "%-I", "%-M", "%-S")


class RefusedDialogue(ModelError):
    """A chat template refuses a dialogue, whatever is merged.

    Attributes:
        reason: What the template says.
    """

    def __init__(self, name: str, reason: str) -> None:
        """Take the tokenizer's name and the template's own words."""
        super().__init__(
            f"{name}: its chat template refuses a dialogue ({reason}); give a preset"
            " of the model another chat_template, or take such dialogues out"
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Opened:
    """A prompt as a template renders it, ready for answers.

    Attributes:
        messages: Its turns, as the template takes them.
        text: Its text, up to the answer.
        leads: The text of the whole dialogue begins with it.
        frame: What else the template writes before an answer, and after it.
        merged_system: A system turn was merged into a turn of the user.
        merged_turns: Consecutive turns of one role were merged.
    """

    messages: Messages
    text: str
    leads: bool = True
    frame: tuple[str, str] = ("", "")
    merged_system: bool = False
    merged_turns: bool = False


@dataclass(frozen=True)
class ChatTemplate:
    """Renders dialogues by a tokenizer's own template.

    Attributes:
        tokenizer: The tokenizer, with a template.
    """

    tokenizer: Any

    def open(self, prompt: Messages) -> Opened:
        """Render a prompt; merge no more turns than the template asks for.

        Raises:
            RefusedDialogue: If the template refuses it in any case.
        """
        reason = ""
        for messages, system, turns in _variants(prompt):
            try:
                opened = self._open(messages)
            except _REFUSALS as error:
                reason = _first_line(error)
            else:
                return replace(opened, merged_system=system, merged_turns=turns)
        raise self._refused(reason)

    def answer(self, opened: Opened, response: str) -> str:
        """Return the text of an answer, which follows that of its prompt.

        Where the whole dialogue does not begin with the prompt's text, since the
        template changes it once an answer follows, the prompt stays as it is without
        an answer, and what stands around an answer is written around this one.

        Raises:
            RefusedDialogue: If the template refuses the answer.
        """
        answer = response.strip()
        if opened.leads:
            try:
                whole = self._whole(opened.messages, answer)
            except _REFUSALS as error:
                raise self._refused(_first_line(error)) from error
            if whole.startswith(opened.text):
                return whole[len(opened.text) :].rstrip()
        before, after = opened.frame
        return f"{before}{answer}{after}".rstrip()

    def closing(self) -> str | None:
        """Return what follows the last answer of a dialogue, without leading space.

        Returns:
            ``None`` if the template refuses a question with an answer, or shows the
            answer changed.
        """
        try:
            whole = self._whole([{"role": "user", "content": "?"}], _PROBE)
        except _REFUSALS:
            return None
        _, found, after = whole.rpartition(_PROBE)
        return after.lstrip() if found else None

    def _open(self, messages: Messages) -> Opened:
        """Render a prompt, whatever its answer."""
        asked = self._apply(messages, True)
        whole = self._whole(messages, _PROBE)
        before, found, after = whole.rpartition(_PROBE)
        space = before[len(before.rstrip()) :]
        if asked.endswith(space):
            space = ""
        frame = (space, after) if found else ("", self.tokenizer.eos_token or "")
        if whole.startswith(asked):
            return Opened(messages, asked, frame=frame)
        # Some templates open an answer otherwise than they show one.
        bare = self._apply(messages, False)
        if whole.startswith(bare):
            return Opened(messages, bare, frame=frame)
        return Opened(messages, asked, leads=False, frame=frame)

    def _whole(self, messages: Messages, answer: str) -> str:
        turn = {"role": "assistant", "content": answer}
        return self._apply([*messages, turn], False)

    def _apply(self, messages: Messages, opened: bool) -> str:
        return str(
            self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=opened
            )
        )

    def _refused(self, reason: str) -> RefusedDialogue:
        return RefusedDialogue(str(self.tokenizer.name_or_path), reason)


def merge_system(messages: Messages) -> Messages:
    """Put each system turn into the user turn after it, or else the one before it."""
    merged: list[dict[str, str]] = []
    waiting: list[str] = []
    for turn in messages:
        if turn["role"] == "system":
            waiting.append(turn["content"])
        elif waiting and turn["role"] == "user":
            merged.append(_user(*waiting, turn["content"]))
            waiting = []
        else:
            _put_down(waiting, merged)
            merged.append(turn)
    _put_down(waiting, merged)
    return merged


def _put_down(waiting: list[str], merged: list[dict[str, str]]) -> None:
    """Add texts that no user turn follows to the one before, or as one of their own."""
    if not waiting:
        return
    if merged and merged[-1]["role"] == "user":
        waiting.insert(0, merged.pop()["content"])
    merged.append(_user(*waiting))
    waiting.clear()


def _user(*texts: str) -> dict[str, str]:
    return {"role": "user", "content": _joined(*texts)}


def merge_turns(messages: Messages) -> Messages:
    """Join consecutive turns of one role, with a blank line between them."""
    merged: list[dict[str, str]] = []
    for turn in messages:
        if merged and merged[-1]["role"] == turn["role"]:
            content = _joined(merged[-1]["content"], turn["content"])
            merged[-1] = {"role": turn["role"], "content": content}
        else:
            merged.append(turn)
    return merged


def fix_date(template: str, day: date) -> str:
    """Return a template that takes ``day`` for today.

    ``strftime_now`` and ``date_string`` are what templates know of the date. Both are
    defined in the template itself, so that whoever loads the tokenizer gets the text
    that the model was trained on. A template that asks for neither is left as it is.
    """
    if template.startswith(_MARK):
        template = template.partition(_END)[2]
    if "strftime_now" not in template and "date_string" not in template:
        return template
    codes = [*(f"%{code}" for code in _CODES), *_ON_LINUX, "%%"]
    replaced = "".join(
        f" | replace({json.dumps(code)}, {json.dumps(day.strftime(code))})"
        for code in codes
    )
    named = json.dumps(day.strftime("%d %b %Y"))
    return (
        f"{_MARK}{{%- if date_string is not defined %}}{{%- set date_string = {named}"
        f" %}}{{%- endif %}}{{%- macro strftime_now(format) -%}}{{{{- format{replaced}"
        f" -}}}}{{%- endmacro %}}{_END}{template}"
    )


def knows_date(template: Any) -> bool:
    """Say whether a template, or one of several, asks for the date."""
    return _MARK in str(template)


def _variants(prompt: Messages) -> Iterator[tuple[Messages, bool, bool]]:
    """Yield a prompt as it is, then with more and more merged."""
    yield prompt, False, False
    apart = merge_system(prompt)
    has_system = any(turn["role"] == "system" for turn in prompt)
    if has_system:
        yield apart, True, False
    if len(joined := merge_turns(prompt)) < len(prompt):
        yield joined, False, True
    if has_system and len(both := merge_turns(apart)) < len(apart):
        yield both, True, True


def _joined(*texts: str) -> str:
    return "\n\n".join(text.strip() for text in texts)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
