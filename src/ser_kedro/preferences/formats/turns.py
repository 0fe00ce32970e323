"""Dialogues as people store them: messages, ShareGPT, ChatML, "Human: … Assistant:"."""

from __future__ import annotations

import re
from typing import Any

from ser_kedro.preferences.records import BadRow, DropReason
from ser_kedro.preferences.schema import Message

Turns = tuple[Message, ...]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "model": "assistant",
    "ai": "assistant",
}
_TOOLS = ("tool", "function", "observation", "function_call", "ipython")
_SPEAKER = re.compile(r"(?:\A\s*|\r?\n\r?\n)(Human|Assistant):")
_CHATML = re.compile(r"<\|im_start\|>([^\n]*)\n(.*?)(?:<\|im_end\|>\s*|\Z)", re.DOTALL)
END = "<|im_end|>"


def read_messages(value: list[Any], key: str) -> Turns:
    """Return the turns of a list of chat messages, found under ``key``.

    A message has ``role`` and ``content``, or ``from`` and ``value``; its content is a
    text or parts of which all are texts.

    Raises:
        BadRow: If the list is empty or holds anything else; with the reason
            ``tool_turn`` or ``not_text`` where a tool spoke or a part is an image.
    """
    turns = tuple(read_message(item, key) for item in value)
    if not turns:
        raise BadRow(DropReason.missing_keys, f"{key} is an empty list")
    return turns


def read_message(item: Any, key: str) -> Message:
    """Return one chat message (see ``read_messages``)."""
    message = item if isinstance(item, dict) else {}
    role = message.get("role", message.get("from"))
    content = message.get("content", message.get("value"))
    if role in _TOOLS or message.get("tool_calls"):
        raise BadRow(DropReason.tool_turn, f"{key} has a turn of a tool")
    if isinstance(content, list):
        content = _joined(content, key)
    if role not in ROLES or not isinstance(content, str):
        raise BadRow(
            DropReason.wrong_types,
            f"{key} must hold messages with a role (system, user, assistant) and a"
            " text as content",
        )
    return Message(ROLES[role], content)


def _joined(parts: list[Any], key: str) -> str:
    texts = []
    for part in parts:
        written = isinstance(part, dict) and part.get("type", "text") == "text"
        text = part.get("text") if written else part
        if not isinstance(text, str):
            raise BadRow(DropReason.not_text, f"{key} has a part that is no text")
        texts.append(text)
    return "".join(texts)


def read_dialogue(text: str) -> Turns | None:
    """Return the turns of a text that is a dialogue, or ``None`` for other texts.

    Known are ``Human: … Assistant: …`` and ChatML.
    """
    if text.lstrip().startswith("<|im_start|>"):
        return _read_chatml(text)
    head, *rest = _SPEAKER.split(text)
    if head or not rest:
        return None
    spoken = zip(rest[::2], rest[1::2], strict=True)
    return tuple(Message(ROLES[who.lower()], said.lstrip(" ")) for who, said in spoken)


def _read_chatml(text: str) -> Turns | None:
    found = _CHATML.findall(text)
    if not found or any(role.strip() not in ROLES for role, _ in found):
        return None
    return tuple(Message(ROLES[role.strip()], said) for role, said in found)


def squeezed(turns: Turns) -> list[tuple[str, str]]:
    """Return turns with their white space normalised, to compare histories."""
    return [(turn.role, " ".join(turn.content.split())) for turn in turns]
