"""Which files of a folder belong to which split, by its card or by their names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import yaml
from fsspec.utils import glob_translate

from ser_kedro.errors import DataError

# As the datasets library names and finds them.
_KEYWORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_CANONICAL = {word: split for split, words in _KEYWORDS.items() for word in words}
_WORDS = "|".join(sorted(_CANONICAL, key=len, reverse=True))
_SEPARATED = re.compile(rf"(?:^|[-._ 0-9])({_WORDS})(?=$|[-._ 0-9])", re.IGNORECASE)
# data/train_prefs-00000-of-00001.parquet is a split of its own beside train_sft.
_SHARD = re.compile(rf"((?:{_WORDS})_\w+)-\d{{5}}-of-\d{{5}}\b", re.IGNORECASE)
_CARD = re.compile(r"\A\ufeff?---\s*\n(.*?)\n---\s*$", re.DOTALL | re.MULTILINE)

Patterns = list[tuple[str, re.Pattern[str]]]


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a folder.

    Attributes:
        split: The split's name.
        asked: Whether the user named it; if not, a folder of one split is read anyway.
        subset: The configuration of the data set's card; ``None`` for its default.
    """

    split: str = "train"
    asked: bool = False
    subset: str | None = None


@dataclass
class Layout:
    """What a folder's own files say about its splits.

    Attributes:
        card: The subsets of ``README.md``, each with the patterns of its splits.
        default: The subset that the card calls the default one.
        folders: Folder names that are splits, from ``dataset_dict.json``.
    """

    card: dict[str, Patterns] = field(default_factory=dict)
    default: str | None = None
    folders: dict[str, str] = field(default_factory=dict)


def choose(
    names: Sequence[str], layout: Layout, wanted: Wanted, place: str
) -> dict[str, str]:
    """Return the files that are not wanted, each with the reason.

    Args:
        names: The data files of a folder, relative to it.
        layout: What its own files say.
        wanted: The split, and the subset if there are several.
        place: The folder, for messages.

    Raises:
        DataError: If the split or the subset is not there, or must be chosen.
    """
    left_out: dict[str, str] = {}
    subset = _choose_subset(layout, wanted, place)
    labels: Mapping[str, str | None] = {name: _label(name, layout) for name in names}
    if subset is not None:
        by_card = {name: _by_pattern(name, layout.card[subset]) for name in names}
        if any(by_card.values()):
            labels = {name: by_card[name] for name in names if by_card[name]}
            reason = f"not in the data_files of README.md ({subset})"
            left_out = {name: reason for name in names if name not in labels}
    kept = _choose_split(labels, wanted, place)
    others = ", ".join(sorted(label for label in kept if label))
    unnamed = f"no split in its name, beside files of the split {others}"
    for name, label in labels.items():
        if label not in kept:
            left_out[name] = f"another split ({label})" if label else unnamed
    return left_out


def read_card(text: str) -> tuple[dict[str, Patterns], str | None]:
    """Return the subsets of a data set's card, and the default one.

    Args:
        text: ``README.md``; its YAML head may list ``configs`` with ``data_files``.
    """
    found = _CARD.match(text)
    try:
        head = yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError:
        return {}, None
    configs = head.get("configs") if isinstance(head, dict) else None
    card: dict[str, Patterns] = {}
    default = None
    for config in configs if isinstance(configs, list) else []:
        if isinstance(config, dict) and config.get("data_files"):
            name = str(config.get("config_name", "default"))
            card[name] = list(_patterns(config))
            if config.get("default") or name == "default":
                default = name
    return card, default


def read_dict(text: str) -> dict[str, str]:
    """Return the folders of a ``dataset_dict.json``, which are named as its splits."""
    try:
        splits = json.loads(text).get("splits")
    except (ValueError, AttributeError):
        return {}
    return {str(split): str(split) for split in splits or []}


def canonical(split: str) -> str:
    """Return the usual name of a split: ``validation`` for ``dev``."""
    return _CANONICAL.get(split.lower(), split)


def _patterns(config: dict[str, Any]) -> Iterator[tuple[str, re.Pattern[str]]]:
    files = config["data_files"]
    if isinstance(files, dict):
        files = [{"split": split, "path": path} for split, path in files.items()]
    base = str(config.get("data_dir") or "").strip("/")
    for item in files if isinstance(files, list) else [files]:
        split, paths = "train", item
        if isinstance(item, dict):
            split, paths = str(item.get("split", "train")), item.get("path")
        for path in paths if isinstance(paths, list) else [paths]:
            full = str(PurePosixPath(base, str(path)))
            yield split, re.compile(glob_translate(full))


def _by_pattern(name: str, patterns: Patterns) -> str | None:
    return next((split for split, pattern in patterns if pattern.match(name)), None)


def _choose_subset(layout: Layout, wanted: Wanted, place: str) -> str | None:
    known = ", ".join(layout.card)
    if wanted.subset is not None:
        if wanted.subset in layout.card:
            return wanted.subset
        raise DataError(
            f"{place}: no subset {wanted.subset} in its README.md"
            + (f"; known are {known}" if known else "")
        )
    if layout.default is not None or not layout.card:
        return layout.default
    if len(layout.card) == 1:
        return next(iter(layout.card))
    first = next(iter(layout.card))
    raise DataError(
        f"{place}: holds several subsets ({known}); choose one: {place}?subset={first}"
    )


def _label(name: str, layout: Layout) -> str | None:
    """Return the split that a file's path names, folders before the file."""
    *folders, file = name.split("/")
    for folder in folders:
        if folder in layout.folders:
            return layout.folders[folder]
    for folder in folders:
        if found := _SEPARATED.search(folder):
            return canonical(found.group(1))
    if shard := _SHARD.match(file):
        return shard.group(1)
    found = _SEPARATED.search(file)
    return canonical(found.group(1)) if found else None


def _choose_split(
    labels: Mapping[str, str | None], wanted: Wanted, place: str
) -> set[str | None]:
    """Return the labels to read; ``None`` is that of a file which names no split."""
    present = set(labels.values())
    known = {label for label in present if label}
    single = len(present) < 2 or known == {"train"}
    if single and not wanted.asked:
        return present
    split = canonical(wanted.split)
    if exact := known & {wanted.split, split}:
        return {*exact}
    alike = {label for label in known if label.lower().startswith(f"{split}_")}
    if len(alike) == 1:
        return {*alike}
    if None in present and split == "train" and not alike:
        return {None}  # pairs.jsonl beside test.jsonl
    if not known:
        raise DataError(f"{place}: no file names a split; leave ?split={split} out")
    found = ", ".join(sorted(known))
    problem = "several files could be" if alike else "no files are"
    example = sorted(alike or known)[0]
    raise DataError(
        f"{place}: {problem} of the split {split} (splits found: {found}); choose one,"
        f" such as {place}?split={example}"
    )
