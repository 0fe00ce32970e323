"""What a record says: a prompt, answers to it, and what is known of which is better."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import combinations

from ser_kedro.preferences.formats.turns import Turns
from ser_kedro.preferences.records import BadRow, DropReason
from ser_kedro.preferences.schema import Message, Pair

# Of more answers than these to one prompt, pairs are formed among these alone.
MOST_ANSWERS = 64


@dataclass(frozen=True, slots=True)
class Answers:
    """A prompt and what was answered to it.

    Attributes:
        prompt: The dialogue before the answers; its last turn is the user's.
        texts: The answers.
        scores: One for each answer, higher is better; ``None`` if nothing is known.
        probability: That the answer with the highest score is the better one, above
            0.5 and at most 1: a soft label.
        margin: By how much it is better, on the data's own scale, where it is said.
        source: Where the record is from; free text.
        annotator: Who compared the answers, where it is known.
        repairs: What was done to read it, by name.
    """

    prompt: Turns
    texts: tuple[str, ...]
    scores: tuple[float, ...] | None
    probability: float = 1.0
    margin: float | None = None
    source: str = ""
    annotator: str = ""
    repairs: tuple[str, ...] = ()

    def labelled(self) -> Pair:
        """Return the best answer beside a lower one.

        Which lower one depends on the texts alone, not on their order.

        Raises:
            BadRow: If no answer is known to be better, or the pair is of no use.
        """
        if self.scores is None:
            raise BadRow(
                DropReason.no_preference,
                "no preference; data without labels is given as pool_path",
            )
        if len({text.strip() for text in self.texts}) < 2:
            raise BadRow(DropReason.identical_answers, "all answers are the same")
        top = max(self.scores)
        scored = sorted(zip(self.texts, self.scores, strict=True))
        best = {text.strip(): text for text, score in scored if score == top}
        lower = [
            text for text, score in scored if score < top and text.strip() not in best
        ]
        if not lower or self._tied:
            raise BadRow(DropReason.tie, "no answer is better than another")
        chosen, rejected = min(best.values(), key=self._key), min(lower, key=self._key)
        return self._pair(chosen, rejected, self.probability, self.margin)

    def unlabelled(self, limit: int) -> Iterator[Pair]:
        """Yield pairs of answers with what is known of them, for a pool.

        Args:
            limit: Pairs at most; which ones depends on the texts alone.

        Raises:
            BadRow: If there are not two different answers.
        """
        texts = sorted(set(self.texts), key=self._key)[:MOST_ANSWERS]
        pairs = [
            sorted(pair)
            for pair in combinations(texts, 2)
            if pair[0].strip()
            and pair[1].strip()
            and pair[0].strip() != pair[1].strip()
        ]
        if not pairs:
            raise BadRow(
                DropReason.too_few_answers, "there are not two different answers"
            )
        pairs.sort(key=lambda pair: self._key("\0".join(pair)))
        for one, other in pairs[:limit]:
            yield self._judged(one, other)

    @property
    def _tied(self) -> bool:
        return self.probability <= 0.5 or (self.margin is not None and self.margin <= 0)

    def _judged(self, one: str, other: str) -> Pair:
        if self.scores is None:
            return self._pair(one, other, None)
        known = dict(zip(self.texts, self.scores, strict=True))
        if known[one] == known[other] or self._tied:
            return self._pair(one, other, None)
        chosen, rejected = (one, other) if known[one] > known[other] else (other, one)
        return self._pair(chosen, rejected, self.probability, self.margin)

    def _pair(
        self,
        chosen: str,
        rejected: str,
        probability: float | None,
        margin: float | None = None,
    ) -> Pair:
        check_usable(self.prompt, chosen, rejected)
        return Pair(
            self.prompt,
            chosen,
            rejected,
            self.source,
            probability=probability,
            margin=margin,
            annotator=self.annotator if probability is not None else "",
            repairs=self.repairs,
            first=self.texts.index(chosen) < self.texts.index(rejected),
        )

    def cleaned(self) -> Answers:
        """Return the answers with texts that a file can hold."""
        prompt = tuple(Message(t.role, encodable(t.content)) for t in self.prompt)
        texts = tuple(map(encodable, self.texts))
        if (prompt, texts) == (self.prompt, self.texts):
            return self
        repairs = (*self.repairs, "half_surrogate_pairs_replaced")
        return replace(self, prompt=prompt, texts=texts, repairs=repairs)

    def _key(self, text: str) -> tuple[bytes, str]:
        turns = [[turn.role, turn.content] for turn in self.prompt]
        key = json.dumps([turns, text]).encode("ascii")
        return hashlib.sha256(key).digest(), text


def check_usable(prompt: Turns, chosen: str, rejected: str) -> None:
    """Check that two answers to a prompt can be compared.

    Raises:
        BadRow: If the prompt does not end with the user's turn, or an answer is empty,
            or both are the same, apart from white space around them.
    """
    check_asked(prompt)
    for key, answer in (("chosen", chosen), ("rejected", rejected)):
        if not answer.strip():
            raise BadRow(DropReason.empty_answer, f"the {key} answer is empty")
    if chosen.strip() == rejected.strip():
        raise BadRow(DropReason.identical_answers, "both answers are the same")


def check_asked(prompt: Turns) -> None:
    """Check that a prompt ends with what the user says.

    Raises:
        BadRow: If it does not.
    """
    if not prompt or prompt[-1].role != "user":
        raise BadRow(
            DropReason.last_turn_not_assistant, "the answers follow no turn of the user"
        )
    if not prompt[-1].content.strip():
        raise BadRow(DropReason.missing_keys, "the last turn of the user is empty")


def encodable(text: str) -> str:
    """Return a text with U+FFFD in the place of half surrogate pairs.

    JSON can spell half a surrogate pair, which no file can hold.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
