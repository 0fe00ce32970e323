"""The known formats of preference data: a shape, and what its columns are called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ser_kedro.preferences.formats.answers import Answers, encodable
from ser_kedro.preferences.formats.dialogues import PLAIN, Style
from ser_kedro.preferences.formats.exports import (
    answers_have,
    arena,
    argilla,
    label_studio,
)
from ser_kedro.preferences.formats.fields import Columns, Fields
from ser_kedro.preferences.formats.shapes import (
    read_pair,
    read_prompt_only,
    read_several,
    read_two,
)
from ser_kedro.preferences.formats.turns import read_dialogue
from ser_kedro.preferences.records import BadRow, DropReason, Record
from ser_kedro.preferences.schema import LonePrompt, Pair, prompt_key

Asked = TypeVar("Asked", Pair, LonePrompt)
Shape = Callable[[Fields, Style], Answers]

_PROMPT = ("prompt", "instruction", "question", "query", "conversations", "messages")
_PROMPTS = (*_PROMPT, "conversation", "context", "post", "input")
_COMMON: Columns = {
    "prompt": _PROMPTS,
    "input": ("input",),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "source": ("source",),
    "annotator": (
        *("annotator", "annotator_id", "labeler", "labeller", "rater"),
        *("worker", "worker_id", "judge"),
    ),
    "margin": ("margin",),
}
_PAIR: Columns = {
    **_COMMON,
    "chosen": ("chosen", "chosen_response", "preferred", "accepted", "response_chosen"),
    "rejected": (
        *("rejected", "rejected_response", "dispreferred", "nonpreferred"),
        "response_rejected",
    ),
    "score_a": ("score_chosen", "chosen_score", "chosen-rating", "chosen_rating"),
    "score_b": (
        *("score_rejected", "rejected_score", "rejected-rating", "rejected_rating"),
    ),
    "probability": ("soft_label", "probability", "chosen_prob"),
}
_TWO: Columns = {
    **_COMMON,
    # Counted from 0 or from 1: whichever there is.
    "response_a": (
        *("response_a", "response_A", "answer_a", "completion_a", "output_a"),
        *("response_0", "answer_0", "completion_0", "output_0"),
        *("response1", "response_1", "answer1", "answer_1"),
        *("completion_1", "output_1"),
    ),
    "response_b": (
        *("response_b", "response_B", "answer_b", "completion_b", "output_b"),
        *("response2", "response_2", "answer2", "answer_2"),
        *("completion_2", "output_2"),
        *("response_1", "answer_1", "completion_1", "output_1"),
    ),
    "preference": ("preference", "label", "winner", "choice", "better", "preferred"),
    "score_a": ("score_a", "score_A", "score_0", "rating_a"),
    "score_b": ("score_b", "score_B", "score_1", "rating_b"),
}
_SEVERAL: Columns = {
    **_COMMON,
    "responses": ("responses", "completions", "answers", "generations", "outputs"),
    "scores": ("scores", "ratings", "rewards", "overall_scores"),
    "response": ("response", "text", "content", "answer", "output", "completion"),
    "score": ("score", "overall_score", "rating", "pm_score", "reward"),
}


@dataclass(frozen=True)
class Format:
    """How records of one kind are read.

    Attributes:
        about: What data has it, in a few words.
        shape: What its records say, once their columns are known.
        columns: Names of columns by what they mean.
        needs: What a record must have, by meaning.
        style: How its values are written.
        prepare: What has to be done to a record first.
        joined: One answer a row: consecutive rows of one prompt belong together.
        mark: How a record is recognised, where its columns are not enough.
    """

    about: str
    shape: Shape
    columns: Columns
    needs: tuple[str, ...]
    style: Style = PLAIN
    prepare: Callable[[Record], Record] | None = None
    joined: bool = False
    mark: Callable[[Record], bool] | None = None

    def fields(self, record: Record) -> Fields:
        """Return a record as it is read."""
        if self.prepare is not None:
            prepared = self.prepare(record)
            fields = Fields(prepared, self.columns)
            fields.used |= {key for key in record if key not in prepared}
            return fields
        return Fields(record, self.columns)

    def read(self, record: Record) -> tuple[Answers, list[str]]:
        """Return what a record says, and its columns with text that were not read.

        Raises:
            BadRow: If it says nothing that is of use.
        """
        fields = self.fields(record)
        answers = self.shape(fields, self.style).cleaned()
        return replace(answers, source=encodable(answers.source)), fields.unused

    def fits(self, record: Record) -> bool:
        """Whether a record looks like one of this format."""
        if self.mark is not None and not self.mark(record):
            return False
        fields = self.fields(record)
        return all(fields.get(name) is not None for name in self.needs)

    def renamed(self, columns: Mapping[str, str]) -> Format:
        """Return the format with some of its columns under other names."""
        named = {meaning: (column,) for meaning, column in columns.items()}
        return replace(self, columns={**self.columns, **named}, mark=None)

    def styled(self, **changes: Any) -> Format:
        """Return the format with another style."""
        return replace(self, style=replace(self.style, **changes))


def last_turn_only(pair: Asked) -> Asked:
    """Return the pair with nothing but the last user turn as its prompt.

    It is still grouped by the first turn: pairs of one dialogue stay on one side.
    """
    return replace(pair, prompt=pair.prompt[-1:], key=prompt_key(pair.prompt))


def _hh(fields: Fields, style: Style) -> Answers:
    for name in ("chosen", "rejected"):
        if read_dialogue(fields.text(name)) is None:
            raise BadRow(DropReason.wrong_types, f'{name} has no turn "Human: ..."')
    return read_pair(fields, style)


FORMATS: dict[str, Format] = {
    "helpsteer3": Format(
        "HelpSteer3: context, response1, response2, overall_preference",
        read_two,
        {
            **_COMMON,
            "prompt": ("context", "prompt"),
            "response_a": ("response1", "response_1"),
            "response_b": ("response2", "response_2"),
            "preference": ("overall_preference", "preference_strength"),
        },
        ("prompt", "response_a", "response_b", "preference"),
        Style(preference="difference_b"),
    ),
    "helpsteer2": Format(
        "HelpSteer2: one answer a row, with its helpfulness",
        read_several,
        {**_SEVERAL, "response": ("response",), "score": ("helpfulness",)},
        ("prompt", "response", "score"),
        joined=True,
    ),
    "pku_saferlhf": Format(
        "PKU-SafeRLHF: response_0, response_1, better_response_id",
        read_two,
        {
            **_COMMON,
            "response_a": ("response_0",),
            "response_b": ("response_1",),
            "preference": ("better_response_id",),
        },
        ("prompt", "response_a", "response_b", "preference"),
    ),
    "shp": Format(
        "Stanford Human Preferences: history, human_ref_A, human_ref_B, labels",
        read_two,
        {
            **{k: v for k, v in _COMMON.items() if k != "history"},
            "prompt": ("history",),
            "response_a": ("human_ref_A",),
            "response_b": ("human_ref_B",),
            "preference": ("labels",),
        },
        ("prompt", "response_a", "response_b", "preference"),
        Style(preference="is_a"),
    ),
    "webgpt": Format(
        "WebGPT comparisons: question.full_text, answer_0, answer_1, score_0, score_1",
        read_two,
        {
            **_COMMON,
            "prompt": ("question.full_text",),
            "response_a": ("answer_0",),
            "response_b": ("answer_1",),
            "score_a": ("score_0",),
            "score_b": ("score_1",),
        },
        ("prompt", "response_a", "response_b", "score_a", "score_b"),
    ),
    "nectar": Format(
        "Nectar: prompt, answers with an answer and a rank",
        read_several,
        {
            **_COMMON,
            "responses": ("answers",),
            "response": ("answer",),
            "score": ("rank",),
        },
        ("prompt", "responses"),
        Style(ranks=True),
        mark=lambda record: answers_have(record, "rank"),
    ),
    "arena": Format(
        "Chatbot Arena: conversation_a, conversation_b, winner",
        read_two,
        {
            "response_a": ("conversation_a", "response_a"),
            "response_b": ("conversation_b", "response_b"),
            "preference": ("winner",),
            "annotator": ("judge",),
        },
        ("response_a", "response_b", "preference"),
        Style(preference="name"),
        prepare=arena,
        mark=lambda record: "conversation_a" in record or "winner_model_a" in record,
    ),
    "judgebench": Format(
        "JudgeBench: question, response_A, response_B, label A>B",
        read_two,
        {
            **_COMMON,
            "prompt": ("question",),
            "response_a": ("response_A",),
            "response_b": ("response_B",),
            "preference": ("label",),
        },
        ("prompt", "response_a", "response_b", "preference"),
        Style(preference="name"),
    ),
    "label_studio": Format(
        "Label Studio export: data, annotations with a pairwise result",
        read_two,
        _TWO,
        ("response_a", "response_b"),
        Style(preference="name"),
        prepare=label_studio,
        mark=lambda record: isinstance(record.get("data"), dict),
    ),
    "argilla": Format(
        "Argilla export: fields, responses",
        read_two,
        _TWO,
        ("response_a", "response_b"),
        Style(preference="name"),
        prepare=argilla,
        mark=lambda record: (
            isinstance(record.get("fields"), dict)
            or any(key.endswith(".responses") for key in record)
        ),
    ),
    "ser": Format(
        "question, response_j (preferred), response_k",
        read_pair,
        {
            **_COMMON,
            "prompt": ("question",),
            "chosen": ("response_j",),
            "rejected": ("response_k",),
        },
        ("prompt", "chosen", "rejected"),
    ),
    "upvoted": Format(
        "stack-exchange-preferences: question, answers with text and pm_score",
        read_several,
        {
            **_COMMON,
            "prompt": ("question",),
            "responses": ("answers",),
            "response": ("text",),
            "score": ("pm_score",),
        },
        ("prompt", "responses"),
        mark=lambda record: answers_have(record, "pm_score"),
    ),
    "hh": Format(
        "raw HH-RLHF: chosen and rejected as whole dialogues Human: … Assistant: …",
        _hh,
        {"chosen": ("chosen",), "rejected": ("rejected",), "source": ("source",)},
        ("chosen", "rejected"),
        mark=lambda record: False,  # "pairs" reads these and more
    ),
    "pairs": Format(
        "prompt, chosen, rejected, as texts or messages (TRL, Axolotl, LLaMA-Factory)",
        read_pair,
        _PAIR,
        ("chosen", "rejected"),
    ),
    "compared": Format(
        "prompt, response_a, response_b and a preference or two scores",
        read_two,
        _TWO,
        ("response_a", "response_b"),
    ),
    "scored": Format(
        "prompt and a list of answers with scores (UltraFeedback)",
        read_several,
        _SEVERAL,
        ("responses",),
    ),
    "rated": Format(
        "one answer a row, with a score; rows of one prompt follow each other",
        read_several,
        _SEVERAL,
        ("prompt", "response", "score"),
        joined=True,
    ),
    "prompts": Format(
        "prompts alone, for a pool", read_prompt_only, _COMMON, ("prompt",)
    ),
}

# What a mapping of columns may name, and the format that it then is.
MEANINGS = (
    *("prompt", "system", "input", "history", "source", "annotator", "margin"),
    "probability",
    *("chosen", "rejected", "response_a", "response_b", "preference"),
    *("score_a", "score_b", "responses", "scores", "response", "score"),
)


_IMPLIED = {
    "pairs": {"chosen", "rejected"},
    "compared": {"response_a", "response_b", "preference", "score_a", "score_b"},
    "scored": {"responses", "scores"},
    "rated": {"response", "score"},
}


def implied(columns: Mapping[str, str]) -> str | None:
    """Return the format that a user means by naming columns, if they say so much.

    Args:
        columns: Names of columns by what they mean (``MEANINGS``).
    """
    fitting = (name for name, meanings in _IMPLIED.items() if meanings & set(columns))
    return next(fitting, None)
