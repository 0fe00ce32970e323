"""Pairs of a right and a wrong short text, out of a Python package.

Usage: python -m benchmarks.bigbench_pairs SDIST FILE

``SDIST`` is bigbench-1.0.0.tar.gz (BIG-bench, Apache-2.0; ``pip download --no-deps
--no-binary bigbench bigbench==1.0.0``, 358 MB). Two of its tasks give right and wrong
texts for one prompt: WinoWhy (why a pronoun means what it means; crowd workers judged
the reasons) and TruthfulQA (true and false answers by its authors). This is the
correctness of short texts, and no preference between answers. Each text is in one pair
at most, so that a label is known of what it was given for alone.

The makers ask that these texts are not put into training corpora: FILE is to be
measured on and not to be passed on. Their canary GUID stands in the package.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import sys
import tarfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

TASKS = "bigbench-1.0.0/bigbench/benchmark_tasks/"
WINOWHY, TRUTHFUL = "winowhy/task.json", "truthful_qa/questions.json"
# The same right answer to many questions: it would give the label away.
_NO_COMMENT = "i have no comment"
_REASON = re.compile(r"(.*?)\s*The '([^']*)' refers to (.*?) because (.*)", re.DOTALL)


def read(sdist: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the examples of the two tasks, by the names of their files."""
    found = {}
    with tarfile.open(sdist, "r|gz") as archive:
        for member in archive:
            name = member.name.removeprefix(TASKS)
            if name in (WINOWHY, TRUTHFUL) and (file := archive.extractfile(member)):
                found[name] = json.load(file)["examples"]
    return found


def judged(tasks: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, str, bool]]:
    """Yield a prompt, a text, and whether the text is right."""
    for example in tasks[TRUTHFUL]:
        for right, answers in ((True, "True answers"), (False, "False answers")):
            for text in example[answers]:
                if plain(text) != _NO_COMMENT:
                    yield example["Question"].strip(), text.strip(), right
    for example in tasks[WINOWHY]:
        if found := _REASON.fullmatch(example["input"]):
            text, pronoun, noun, reason = found.groups()
            prompt = f"{text}\nWhy does '{pronoun}' refer to {noun}?"
            cut = reason.split("<|endoftext|>")[0].strip()
            yield prompt, cut, example["target_scores"]["correct"] == 1


def plain(text: str) -> str:
    """Return a text as words in small letters."""
    return re.sub(r"\W+", " ", text.lower()).strip()


def pairs(tasks: dict[str, list[dict[str, Any]]]) -> list[dict[str, str]]:
    """Return pairs, each text of a prompt in one at most, in an order of no meaning."""
    sides: defaultdict[str, dict[bool, dict[str, str]]] = defaultdict(
        lambda: {True: {}, False: {}}
    )
    for prompt, text, right in judged(tasks):
        sides[prompt][right].setdefault(plain(text), text)
    found = []
    for prompt, texts in sides.items():
        both = texts[True].keys() & texts[False].keys()
        right, wrong = (
            sorted((v for k, v in texts[side].items() if k not in both), key=_hash)
            for side in (True, False)
        )
        found += [
            {"prompt": prompt, "chosen": one, "rejected": two}
            for one, two in zip(right, wrong, strict=False)
        ]
    return sorted(found, key=lambda row: _hash(json.dumps(row)))


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def main() -> None:
    """Write the pairs."""
    sdist, place = map(Path, sys.argv[1:])
    rows = pairs(read(sdist))
    with gzip.open(place, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    print(f"{len(rows):,} pairs of {len({row['prompt'] for row in rows}):,} prompts")


if __name__ == "__main__":
    main()
