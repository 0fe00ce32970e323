"""The folder of a committee: a linear head on views of a frozen model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ser_kedro.models.params import View
from ser_kedro.store.json_io import read_json, write_json

VIEWS = "views.json"


def save_views(views: Sequence[View], folder: Path) -> None:
    """Write which views a committee reads."""
    write_json(folder / VIEWS, [view.model_dump() for view in views])


def load_views(folder: Path) -> tuple[View, ...]:
    """Read what ``save_views`` wrote."""
    return tuple(View(**view) for view in read_json(folder / VIEWS))
