"""The one place where text becomes token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import torch

from ser_kedro.errors import ModelError
from ser_kedro.models.special_tokens import SpecialTokens
from ser_kedro.models.template import ChatTemplate, Messages, Opened

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = [
    "EncodedPair",
    "Encoder",
    "EncodingCount",
    "Messages",
    "Policy",
    "ensure_pad_token",
    "tokens_above",
    "too_large",
]

# A word that every vocabulary can spell, to see what surrounds it.
_PROBE = "a"


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """A prompt and two responses as token ids; a row is ``prompt + response``.

    Attributes:
        prompt: Ids of the prompt, with the tokenizer's own prefix; cut on the left
            where a row would be too long, by the same amount for both responses.
        a: Ids of the first response, with the closing eos.
        b: Ids of the second response, with the closing eos.
        overlong: The pair did not fit ``max_length``.
    """

    prompt: list[int]
    a: list[int]
    b: list[int]
    overlong: bool

    @property
    def equal(self) -> bool:
        """Truncation has made the two responses equal: there is nothing to learn."""
        return self.a == self.b


@dataclass
class Encoder:
    r"""Renders dialogues and encodes them, the same way wherever rewards are used.

    With a chat template the tokenizer's own is used, and turns that it refuses are
    merged; without one a dialogue reads ``Question: …\n\nAnswer: …`` turn by turn, as
    in the paper. Texts are text: names of special tokens in them are spelt out.

    Attributes:
        tokenizer: A tokenizer with a real pad token.
        max_length: Tokens of a row, at most.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    prefix: list[int] = field(init=False)
    suffix: list[int] = field(init=False)
    special: SpecialTokens = field(init=False)

    def __post_init__(self) -> None:
        """Find what the tokenizer puts around a text, and close rows with eos."""
        self.special = SpecialTokens(self.tokenizer)
        bare = self._ids([_PROBE])[0]
        full = self.tokenizer(_PROBE)["input_ids"]
        start = next(
            (i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0
        )
        self.prefix, self.suffix = full[:start], full[start + len(bare) :]
        eos = self.tokenizer.eos_token_id
        if eos is not None and not self.suffix:
            self.suffix = [eos]

    def render(self, prompt: Messages, response: str) -> tuple[str, str]:
        """Return the text of the prompt and that of the response; joined, the row.

        The response's text starts with the space that separates it, so that for
        tokenizers that keep words with their leading space the cut between the two
        is a cut between tokens.
        """
        opened = self.open(prompt)
        return self._head(opened), self._tail(opened, response)

    def open(self, prompt: Messages) -> Opened:
        """Return a prompt as text, the same whatever answer follows.

        Raises:
            RefusedDialogue: If the chat template refuses it.
        """
        texts = [
            {name: self.special.mark(text) for name, text in turn.items()}
            for turn in prompt
        ]
        if self.tokenizer.chat_template:
            return ChatTemplate(self.tokenizer).open(texts)
        return Opened(texts, _render_plain(texts))

    def text(self, prompt: Messages, response: str) -> str:
        """Return the row as text, eos included: what a tokenizer needs to be given.

        Special tokens that stand in the texts are not told from the template's own.
        """
        head, tail = self.render(prompt, response)
        eos = self.tokenizer.eos_token
        closed = tail.endswith(eos) if eos else True
        whole = head + tail + ("" if closed or self._closes_itself() else str(eos))
        return self.special.unmark(whole)

    def prompt_ids(self, prompt: Messages) -> list[int]:
        """Return the ids of a prompt alone, cut on the left to ``max_length``."""
        return self.opened_ids(self.open(prompt))

    def opened_ids(self, opened: Opened) -> list[int]:
        """Return the same for a prompt that is text already, from ``open``."""
        ids = self._ids([self._head(opened)])[0]
        room = self.max_length - len(self.prefix)
        return self.prefix + ids[max(0, len(ids) - room) :]

    def pairs(
        self, prompts: Iterable[Messages], a: Iterable[str], b: Iterable[str]
    ) -> list[EncodedPair]:
        """Encode a batch of pairs.

        Args:
            prompts: ``n`` dialogues.
            a: The ``n`` first responses.
            b: The ``n`` second responses.
        """
        rows = zip(prompts, a, b, strict=True)
        return self.text_pairs(
            [self.texts(self.open(prompt), one, two) for prompt, one, two in rows]
        )

    def texts(self, opened: Opened, *responses: str) -> list[str]:
        """Return the text of a prompt from ``open``, and that of each response."""
        return [self._head(opened), *(self._tail(opened, each) for each in responses)]

    def text_pairs(self, rows: Sequence[Sequence[str]]) -> list[EncodedPair]:
        """Encode pairs that are text already, from ``texts``."""
        if not rows:
            return []
        heads, tails_a, tails_b = (list(column) for column in zip(*rows, strict=True))
        prompts_ids = self._ids(heads)
        both = (self._tail_ids(heads, prompts_ids, t) for t in (tails_a, tails_b))
        return [self._fit(*row) for row in zip(prompts_ids, *both, strict=True)]

    def _tail_ids(
        self, heads: list[str], heads_ids: list[list[int]], tails: list[str]
    ) -> list[list[int]]:
        # In the company of their prompt: SentencePiece writes a text that stands alone
        # otherwise (Llama 2, Mistral). Alone only where a token spans the cut.
        rows = self._ids([h + t for h, t in zip(heads, tails, strict=True)])
        cut = [
            row[len(head) :] if row[: len(head)] == head else None
            for row, head in zip(rows, heads_ids, strict=True)
        ]
        if None not in cut:
            return [ids for ids in cut if ids is not None]
        alone = self._ids(tails)
        return [a if c is None else c for a, c in zip(alone, cut, strict=True)]

    def _fit(self, prompt: list[int], a: list[int], b: list[int]) -> EncodedPair:
        a, b = self._open(a), self._open(b)
        room = self.max_length - len(self.prefix) - len(self.suffix)
        longest = max(len(a), len(b))
        keep = max(0, room - longest)
        return EncodedPair(
            prompt=self.prefix + prompt[max(0, len(prompt) - keep) :],
            a=a[:room] + self.suffix,
            b=b[:room] + self.suffix,
            overlong=len(prompt) + longest > room,
        )

    def _open(self, ids: list[int]) -> list[int]:
        # A chat template may have written the eos already.
        closed = bool(self.suffix) and ids[-len(self.suffix) :] == self.suffix
        return ids[: -len(self.suffix)] if closed else ids

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)[
            "input_ids"
        ]
        for row, text in enumerate(texts):
            if self.special.has_marks(text):
                ids[row] = self.special.ids(text)
        return ids

    def _closes_itself(self) -> bool:
        return bool(self.tokenizer(_PROBE)["input_ids"][-1:] == self.suffix[-1:])

    def _head(self, opened: Opened) -> str:
        bos = self.tokenizer.bos_token
        if self.tokenizer.chat_template and self.prefix and bos:
            # Template and tokenizer would each write the opening token.
            return opened.text.removeprefix(bos)
        return opened.text

    def _tail(self, opened: Opened, response: str) -> str:
        response = self.special.mark(response)
        if self.tokenizer.chat_template:
            return ChatTemplate(self.tokenizer).answer(opened, response)
        return f" {response.strip()}"


def _render_plain(prompt: Messages) -> str:
    names = {"system": "", "user": "Question: ", "assistant": "Answer: "}
    turns = [
        names.get(turn["role"], f"{turn['role'].capitalize()}: ")
        + turn["content"].strip()
        for turn in prompt
    ]
    return "\n\n".join([*turns, "Answer:"])


def ensure_pad_token(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    """Give the tokenizer a pad token that is not its eos, and the model a row for it.

    With eos as padding, the last token that is not padding is never the eos, and the
    reward would be read at the wrong place.

    Raises:
        ModelError: If the tokenizer has other tokens that the model does not know.
    """
    rows = model.get_input_embeddings().num_embeddings
    if unknown := tokens_above(tokenizer, rows):
        raise ModelError(too_large(str(tokenizer.name_or_path), rows, unknown))
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})  # a name  # nosec B105
    needed = max(len(tokenizer), tokenizer.pad_token_id + 1)
    if tokenizer.pad_token_id >= rows:
        # The row is never read. Where it is the same in any case, whatever the seed and
        # the number of threads, equal models stay equal, and what was computed of one
        # is known of the other.
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model.resize_token_embeddings(needed, mean_resizing=False)
            model.get_input_embeddings().weight[rows:] = 0
    model.config.pad_token_id = tokenizer.pad_token_id


def tokens_above(tokenizer: PreTrainedTokenizerBase, rows: int) -> list[str]:
    """Return the tokens that an embedding of ``rows`` rows lacks, padding apart."""
    pad = None if tokenizer.pad_token == tokenizer.eos_token else tokenizer.pad_token
    return sorted(
        token
        for token, number in tokenizer.get_vocab().items()
        if number >= rows and token != pad
    )


def too_large(name: str, rows: int, unknown: Sequence[str]) -> str:
    """Say that a tokenizer has tokens that its model does not know."""
    return (
        f"model={name}: its tokenizer has {len(unknown)} tokens that the model does not"
        f" know ({', '.join(map(repr, unknown[:3]))}; the embedding has {rows} rows);"
        " give the tokenizer that belongs to the model, or resize its embedding and"
        " train it"
    )


Policy = Literal["truncate", "drop"]


@dataclass
class EncodingCount:
    """What encoding did to the rows.

    Attributes:
        rows: Rows read.
        overlong: Rows above ``max_length``; truncated or dropped, by the policy.
        equal: Rows dropped since truncation made the two responses equal.
        kept: Rows left.
    """

    rows: int = 0
    overlong: int = 0
    equal: int = 0
    kept: int = 0

    def admit(
        self, pair: EncodedPair, policy: Policy, *, compared: bool = True
    ) -> bool:
        """Count a pair and say whether training may use it.

        Args:
            pair: The pair.
            policy: What to do with one that is too long.
            compared: Training compares the two responses, so they must differ.
        """
        self.rows += 1
        self.overlong += pair.overlong
        if pair.overlong and policy == "drop":
            return False
        useless = compared and pair.equal
        self.equal += useless
        self.kept += not useless
        return not useless

    def as_metrics(self) -> dict[str, int]:
        """Return the counts by the names that they have among a model's metrics."""
        return {
            "pairs": self.rows,
            "overlong_pairs": self.overlong,
            "equal_pairs": self.equal,
            "trained_pairs": self.kept,
        }
