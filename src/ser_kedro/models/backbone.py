"""The folder of a model that stands on a frozen one: its weights linked, a head new."""

from __future__ import annotations

import shutil
from pathlib import Path

from ser_kedro.models.features import BACKBONE, HEAD, INDEX
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.layout import link


def link_backbone(source: Path, folder: Path) -> None:
    """Make a folder of a backbone's files, the large one linked, not copied.

    Args:
        source: Folder of ``save_backbone``.
        folder: Where to.
    """
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        copy = link if file.name == BACKBONE else shutil.copy
        (folder / file.name).unlink(missing_ok=True)
        copy(str(file), str(folder / file.name))


def hide_head(folder: Path) -> None:
    """Leave the head out of what other software loads.

    Only ours knows a head with a hidden layer, or one on views; others must say that a
    head is missing.

    Args:
        folder: From ``link_backbone``.
    """
    (folder / HEAD).unlink()
    index = read_json(folder / INDEX)
    kept = {k: v for k, v in index["weight_map"].items() if v != HEAD}
    write_json(folder / INDEX, {**index, "weight_map": kept})
