"""The one place where text becomes token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Messages = Sequence[dict[str, str]]

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
    """Renders dialogues and encodes them, the same way wherever rewards are used.

    With a chat template the tokenizer's own is used; without one a dialogue reads
    ``Question: …\n\nAnswer: …`` turn by turn, as in the paper.

    Attributes:
        tokenizer: A tokenizer with a real pad token.
        max_length: Tokens of a row, at most.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    prefix: list[int] = field(init=False)
    suffix: list[int] = field(init=False)

    def __post_init__(self) -> None:
        """Find what the tokenizer puts around a text, and close rows with eos."""
        bare = self._ids([_PROBE])[0]
        full = self.tokenizer(_PROBE)["input_ids"]
        start = next(
            (i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0
        )
        self.prefix, self.suffix = full[:start], full[start + len(bare) :]
        eos = self.tokenizer.eos_token_id
        if eos is not None and not self.suffix:
            self.suffix = [eos]
        if self.tokenizer.chat_template:
            # The template writes the opening token itself.
            self.prefix = []

    def render(self, prompt: Messages, response: str) -> tuple[str, str]:
        """Return the text of the prompt and that of the response; joined, the row.

        The response's text starts with the space that separates it, so that for
        tokenizers that keep words with their leading space the cut between the two
        is a cut between tokens.
        """
        if self.tokenizer.chat_template:
            return self._render_chat(prompt, response)
        return _render_plain(prompt), f" {response.strip()}"

    def text(self, prompt: Messages, response: str) -> str:
        """Return the row as text, eos included: what a tokenizer needs to be given."""
        head, tail = self.render(prompt, response)
        eos = self.tokenizer.eos_token
        closed = tail.endswith(eos) if eos else True
        return head + tail + ("" if closed or self._closes_itself() else str(eos))

    def prompt_ids(self, prompt: Messages) -> list[int]:
        """Return the ids of a prompt alone, cut on the left to ``max_length``."""
        ids = self._ids([self.render(prompt, "")[0]])[0]
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
        heads, tails_a, tails_b = [], [], []
        for prompt, one, two in zip(prompts, a, b, strict=True):
            head, tail_a = self.render(prompt, one)
            heads.append(head)
            tails_a.append(tail_a)
            tails_b.append(self.render(prompt, two)[1])
        encoded = map(self._ids, (heads, tails_a, tails_b))
        return [self._fit(*row) for row in zip(*encoded, strict=True)]

    def _fit(self, prompt: list[int], a: list[int], b: list[int]) -> EncodedPair:
        room = self.max_length - len(self.prefix) - len(self.suffix)
        longest = max(len(a), len(b))
        keep = max(0, room - longest)
        return EncodedPair(
            prompt=self.prefix + prompt[max(0, len(prompt) - keep) :],
            a=self._close(a[:room]),
            b=self._close(b[:room]),
            overlong=len(prompt) + longest > room,
        )

    def _close(self, ids: list[int]) -> list[int]:
        return ids if ids[-len(self.suffix) :] == self.suffix else ids + self.suffix

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)[
            "input_ids"
        ]
        return ids

    def _closes_itself(self) -> bool:
        return bool(self.tokenizer(_PROBE)["input_ids"][-1:] == self.suffix[-1:])

    def _render_chat(self, prompt: Messages, response: str) -> tuple[str, str]:
        def apply(messages: Messages, opened: bool) -> str:
            return str(
                self.tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=opened
                )
            )

        head = apply(prompt, True)
        whole = apply(
            [*prompt, {"role": "assistant", "content": response.strip()}], False
        )
        if not whole.startswith(head):
            # Some templates open an answer otherwise than they show one.
            head = apply(prompt, False)
        return head, whole[len(head) :].rstrip()


def _render_plain(prompt: Messages) -> str:
    names = {"system": "", "user": "Question: ", "assistant": "Answer: "}
    turns = [f"{names[turn['role']]}{turn['content'].strip()}" for turn in prompt]
    return "\n\n".join([*turns, "Answer:"])


def ensure_pad_token(
    tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel
) -> None:
    """Give the tokenizer a pad token that is not its eos, and the model a row for it.

    With eos as padding, the last token that is not padding is never the eos, and the
    reward would be read at the wrong place.
    """
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.add_special_tokens({"pad_token": "<|pad|>"})
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
    model.config.pad_token_id = tokenizer.pad_token_id


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

    def as_metrics(self) -> dict[str, Any]:
        """Return the counts by name."""
        return dict(vars(self))
