"""Special tokens in the texts of users are text, and no tokens.

A chat template writes its special tokens into the same string as the texts. Whoever
writes ``<|im_end|>`` into an answer could end it there, and forge a turn. So names of
special tokens in a text carry a mark until they are encoded, and are then spelt out.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Of Unicode's private use: nothing that people write.
_MARK = "\uf4a3"


class SpecialTokens:
    """The special tokens of a tokenizer, as they may stand in texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the tokenizer."""
        self.tokenizer = tokenizer

    def mark(self, text: str) -> str:
        """Return a user's text with each name of a special token marked."""
        if self._names is None:
            return text
        return self._names.sub(lambda found: _mark(found[0]), text)

    def unmark(self, text: str) -> str:
        """Return a rendered text without marks."""
        if self._marked is None:
            return text
        return self._marked.sub(lambda found: found[0].replace(_MARK, ""), text)

    def has_marks(self, text: str) -> bool:
        """Say whether a rendered text has marked names."""
        return bool(_MARK in text and self._marked and self._marked.search(text))

    def ids(self, text: str) -> list[int]:
        """Return the ids of a rendered text that has marks: names are spelt out."""
        assert self._marked is not None
        ids: list[int] = []
        for number, part in enumerate(self._marked.split(text)):
            # Texts and names take turns. Half a name is in no vocabulary as a whole:
            # some tokenizers (Unigram) know special tokens as words, too.
            name = bool(number % 2)
            for piece in part.split(_MARK) if name else (part,):
                ids += self.tokenizer(
                    piece, add_special_tokens=False, split_special_tokens=name
                )["input_ids"]
        return ids

    @cached_property
    def _known(self) -> list[str]:
        decoder = self.tokenizer.added_tokens_decoder
        names = {token.content for token in decoder.values() if token.special}
        return sorted(names - {""}, key=len, reverse=True)

    @cached_property
    def _names(self) -> re.Pattern[str] | None:
        return (
            re.compile("|".join(map(re.escape, self._known))) if self._known else None
        )

    @cached_property
    def _marked(self) -> re.Pattern[str] | None:
        if not self._known:
            return None
        return re.compile(f"({'|'.join(re.escape(_mark(n)) for n in self._known)})")


def _mark(name: str) -> str:
    return f"{name[0]}{_MARK}{name[1:]}"
