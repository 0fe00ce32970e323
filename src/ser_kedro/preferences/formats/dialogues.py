"""A prompt and what stands behind it: texts and dialogues brought together."""

from __future__ import annotations

from dataclasses import dataclass

from ser_kedro.preferences.formats.answers import Answers
from ser_kedro.preferences.formats.fields import Fields
from ser_kedro.preferences.formats.turns import (
    END,
    Turns,
    read_dialogue,
    read_messages,
    squeezed,
)
from ser_kedro.preferences.formats.votes import Reading
from ser_kedro.preferences.records import BadRow, DropReason
from ser_kedro.preferences.schema import Message

Side = str | Turns


@dataclass(frozen=True, slots=True)
class Style:
    """How the records of one place are written, beyond the names of their columns.

    Attributes:
        preference: What the values of the column ``preference`` mean.
        repeated: Answers repeat the text of the prompt, which is taken off.
        ranks: Scores are ranks: lower is better.
        blind: Labels are not looked at.
    """

    preference: Reading = "index"
    repeated: bool = False
    ranks: bool = False
    blind: bool = False


PLAIN = Style()


@dataclass(frozen=True, slots=True)
class Prompt:
    """What comes before an answer.

    Attributes:
        turns: Its turns; none where the record gives no prompt.
        text: As it stood, where it was one text.
        spoken: Whether that text was a dialogue.
    """

    turns: Turns
    text: str = ""
    spoken: bool = False


def read_prompt(fields: Fields, *, needed: bool = True) -> Prompt:
    """Return the prompt with its system turn, earlier turns and added input.

    Raises:
        BadRow: If it is neither a text nor messages; if it is missing or empty and
            needed.
    """
    value = fields.get("prompt")
    if value is None or value in ("", []):
        if needed:
            fields.need("prompt")
            raise BadRow(DropReason.missing_keys, f"{fields.called('prompt')} is empty")
        return Prompt(_before(fields, ()))
    if isinstance(value, list | dict):
        messages = value if isinstance(value, list) else [value]
        return Prompt(_before(fields, read_messages(messages, fields.called("prompt"))))
    text = fields.text("prompt")
    if not text.strip():
        raise BadRow(DropReason.missing_keys, f"{fields.called('prompt')} is empty")
    added = fields.optional_text("input")
    if added.strip() and added != text:
        text = f"{text}\n{added}"
    turns = read_dialogue(text)
    if turns is None:
        return Prompt(_before(fields, (Message("user", text),)), text)
    # The "Assistant:" at the end only asks for the answer.
    asks = turns[-1].role == "assistant" and not turns[-1].content.strip()
    return Prompt(_before(fields, turns[:-1] if asks else turns), text, spoken=True)


def _before(fields: Fields, turns: Turns) -> Turns:
    """Put the columns ``system`` and ``history`` in front of a prompt."""
    history = fields.get("history")
    earlier: Turns = ()
    if isinstance(history, list):
        for exchange in history:
            if not isinstance(exchange, list) or len(exchange) != 2:
                raise BadRow(
                    DropReason.wrong_types,
                    "history must hold pairs of what was asked and answered",
                )
            asked, answered = map(str, exchange)
            earlier += (Message("user", asked), Message("assistant", answered))
    turns = earlier + turns
    system = fields.optional_text("system").strip()
    if not system or (turns and turns[0] == Message("system", system)):
        return turns
    if turns and turns[0].role == "system":
        both = f"{system}\n\n{turns[0].content}"
        return (Message("system", both), *turns[1:])
    return (Message("system", system), *turns)


def with_prompt(
    fields: Fields, prompt: Prompt, sides: list[Side], style: Style
) -> Answers:
    """Join a prompt with answers, of which some may be whole dialogues."""
    if any(isinstance(side, str) for side in sides):
        sides = _as_dialogues(prompt, sides)
    repairs: set[str] = set()
    found = [_place(prompt, side, style, repairs) for side in sides]
    history = found[0][0]
    if any(squeezed(other) != squeezed(history) for other, _ in found):
        raise BadRow(
            DropReason.histories_differ, "the dialogues differ before their last turn"
        )
    return Answers(
        history,
        tuple(text for _, text in found),
        None,
        source=source_of(fields),
        annotator=_annotator(fields),
        repairs=tuple(sorted(repairs)),
    )


def _as_dialogues(prompt: Prompt, sides: list[Side]) -> list[Side]:
    """Read texts as whole dialogues where the prompt says that they are."""
    if not all(isinstance(side, str) for side in sides):
        raise BadRow(
            DropReason.wrong_types,
            "the answers must all be texts or all lists of messages",
        )
    read = [read_dialogue(str(side)) for side in sides]
    whole = [
        turns
        for turns in read
        if turns is not None and len(turns) > 1 and turns[0].role != "assistant"
    ]
    if len(whole) == len(sides) and (not prompt.text or prompt.spoken):
        return list(whole)
    if not prompt.turns or (not prompt.text and prompt.turns[-1].role == "system"):
        # Where the common beginning of two plain texts ends, nobody can say.
        raise BadRow(
            DropReason.missing_keys,
            'no prompt, and the answers are no dialogues "Human: ... Assistant: ..."'
            " from which it could be read",
        )
    if len(whole) == len(sides) and all(
        squeezed(turns[: len(prompt.turns)]) == squeezed(prompt.turns)
        for turns in whole
    ):
        return list(whole)
    return sides


def _place(
    prompt: Prompt, side: Side, style: Style, repairs: set[str]
) -> tuple[Turns, str]:
    """Return the turns before an answer, and its text."""
    if isinstance(side, str):
        return _place_text(prompt, side, style, repairs)
    if side[-1].role != "assistant":
        raise BadRow(
            DropReason.last_turn_not_assistant,
            f"an answer ends with a turn of the {side[-1].role}",
        )
    if side[0].role == "assistant":
        if not prompt.turns:
            raise BadRow(DropReason.missing_keys, "no prompt, and answers alone")
        if len(side) == 1:
            return _place_text(prompt, side[0].content, style, repairs)
        whole = prompt.turns + side
    else:
        whole = _whole(prompt, side, repairs)
    return whole[:-1], whole[-1].content


def _whole(prompt: Prompt, side: Turns, repairs: set[str]) -> Turns:
    """Return a whole dialogue, which may repeat the prompt or go on from it."""
    before = _not_in(prompt, side)
    if before is None:
        raise BadRow(
            DropReason.prompt_differs, "the dialogue does not begin with the prompt"
        )
    if before and before[-1].role == "assistant":
        repairs.add("answers_go_on_the_dialogue")
    return before + side


def _not_in(prompt: Prompt, side: Turns) -> Turns | None:
    """Return the turns of the prompt that a dialogue lacks; ``None`` if they differ."""
    mine, theirs = squeezed(prompt.turns), squeezed(side)
    asked = [text for role, text in theirs if role == "user"]
    system = bool(mine) and mine[0][0] == "system"
    own_system = 1 if theirs[0][0] == "system" else 0
    repeated = theirs[own_system : own_system + len(mine)] == mine
    if repeated or theirs[: len(mine)] == mine:
        return ()
    if prompt.text and " ".join(prompt.text.split()) in asked:
        return prompt.turns[:1] if system and not own_system else ()
    if system and not own_system and theirs[: len(mine) - 1] == mine[1:]:
        return prompt.turns[:1]
    goes_on = prompt.turns[-1].role == "assistant" and side[0].role == "user"
    return prompt.turns if goes_on else None


def _place_text(
    prompt: Prompt, text: str, style: Style, repairs: set[str]
) -> tuple[Turns, str]:
    if prompt.spoken:
        text = text.removesuffix("\n").removesuffix(END) if END in text else text
        text = text.lstrip(" ")
    elif style.repeated and prompt.text and text.startswith(prompt.text):
        repairs.add("prompt_taken_off_the_answer")
        text = text.removeprefix(prompt.text).lstrip()
    turns = prompt.turns
    if len(turns) > 1 and turns[-1].role == "assistant":
        repairs.add("beginning_of_the_answer_joined")
        begun, turns = turns[-1].content, turns[:-1]
        joint = "" if begun[-1:].isspace() or not text[:1].isalnum() else " "
        text = f"{begun}{joint}{text}"
    return turns, text


def source_of(fields: Fields) -> str:
    """Return where a record says that it is from."""
    return fields.optional_text("source")


def _annotator(fields: Fields) -> str:
    value = fields.get("annotator")
    return str(value) if isinstance(value, str | int) else ""
