"""Label requests as files for other tools; the readers of the project read them back.

No file says what the model thinks: whoever labels must not know. The prompt is always
a list of messages, so that a pair has the same identity when it comes back.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ser_kedro.errors import DataError

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]


def export(requests: pa.Table, form: str, path: Path) -> None:
    """Write label requests to a new file.

    Args:
        requests: A table of ``REQUESTS``.
        form: A name in ``EXPORTS``.
        path: Where to; nothing may be there, since it may hold labels.

    Raises:
        DataError: If there is something, or no such folder.
    """
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            EXPORTS[form](requests.to_pylist(), file)
    except FileExistsError as error:
        raise DataError(
            f"{path}: is there already, and may hold labels; give another name"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def _plain(row: Row) -> Row:
    names = ("prompt", "response_a", "response_b", "source", "random")
    return {**{name: row[name] for name in names}, "preference": None}


def _write_jsonl(rows: Iterable[Row], file: TextIO) -> None:
    file.writelines(_json(_plain(row)) + "\n" for row in rows)


def _write_csv(rows: Iterable[Row], file: TextIO) -> None:
    plain = [{**_plain(row), "prompt": _json(row["prompt"])} for row in rows]
    writer = csv.DictWriter(file, plain[0] if plain else ["prompt"])
    writer.writeheader()
    writer.writerows(plain)


def _write_label_studio(rows: Iterable[Row], file: TextIO) -> None:
    tasks = [
        {
            "data": {
                "prompt": row["prompt"],
                "answer1": row["response_a"],
                "answer2": row["response_b"],
                "source": row["source"],
                "random": row["random"],
            }
        }
        for row in rows
    ]
    file.write(_json(tasks))


def _write_argilla(rows: Iterable[Row], file: TextIO) -> None:
    records = [
        {
            "id": row["pair_id"],
            "fields": {
                "prompt": row["prompt"],
                "response1": row["response_a"],
                "response2": row["response_b"],
            },
            "metadata": {"source": row["source"], "random": str(row["random"])},
        }
        for row in rows
    ]
    file.write(_json(records))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


EXPORTS: dict[str, Callable[[Iterable[Row], TextIO], None]] = {
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "label_studio": _write_label_studio,
    "argilla": _write_argilla,
}
