"""Exports of other tools, brought into the form of one record."""

from __future__ import annotations

import json
from typing import Any

from ser_kedro.preferences.records import Record


def arena(record: Record) -> Record:
    """Bring the columns of Chatbot Arena's exports into one form."""
    record = dict(record)
    winners = ("winner_model_a", "winner_model_b", "winner_tie")
    if all(name in record for name in winners):
        flags = [record.pop(name) for name in winners]
        named = dict(zip(("model_a", "model_b", "tie"), flags, strict=True))
        record["winner"] = next((name for name, on in named.items() if on), None)
    prompts = _listed(record.get("prompt"))
    for side in "ab":
        said = _listed(record.get(f"response_{side}"))
        if prompts is None or said is None or len(said) != len(prompts):
            continue
        turns = [
            {"role": role, "content": text}
            for exchange in zip(prompts, said, strict=True)
            for role, text in zip(("user", "assistant"), exchange, strict=True)
        ]
        record[f"conversation_{side}"] = turns
    if "conversation_a" in record and prompts is not None:
        for name in ("prompt", "response_a", "response_b"):
            record.pop(name, None)
    return record


def answers_have(record: Record, name: str) -> bool:
    """Whether the answers of a record are objects with a field of that name."""
    answers = record.get("answers")
    first = answers[0] if isinstance(answers, list) and answers else None
    return isinstance(first, dict) and name in first


def _listed(value: Any) -> list[str] | None:
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError:
            return None
    if isinstance(value, list) and all(isinstance(v, str | None) for v in value):
        return [text or "" for text in value]
    return None


def label_studio(record: Record) -> Record:
    """Take the texts of a task, and one vote for each annotation."""
    data = record.get("data")
    votes = [
        choice
        for note in record.get("annotations") or record.get("completions") or []
        if isinstance(note, dict) and not note.get("was_cancelled")
        for result in note.get("result") or []
        if isinstance(result, dict)
        for choice in _chosen_in(result.get("value"))
    ]
    texts = data if isinstance(data, dict) else {}
    return {**texts, "preference": votes}


def _chosen_in(value: Any) -> list[Any]:
    if not isinstance(value, dict):
        return []
    selected = value.get("selected", value.get("choices"))
    return selected if isinstance(selected, list) else [selected]


def argilla(record: Record) -> Record:
    """Take the fields of an Argilla record, and one vote for each response."""
    texts = record.get("fields")
    found = dict(texts) if isinstance(texts, dict) else {}
    answers = record.get("responses")
    if isinstance(answers, dict):
        for name, given in answers.items():
            values = [
                one.get("value") if isinstance(one, dict) else one
                for one in given or []
            ]
            if "preference" not in found and name not in found:
                found["preference"] = values
    for name, value in record.items():
        if name.endswith(".responses") and value:
            found["preference"] = value
    return {**{k: v for k, v in record.items() if isinstance(v, str)}, **found}
