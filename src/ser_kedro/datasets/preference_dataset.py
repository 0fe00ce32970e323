"""``PreferenceDataset`` loads preference pairs from files, URLs or the hub."""

from __future__ import annotations

from itertools import islice
from typing import Any, NoReturn

from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview
from pydantic import ValidationError

from ser_kedro.errors import DataError
from ser_kedro.preferences.formats.recognise import AUTO
from ser_kedro.preferences.schema import Pair
from ser_kedro.preferences.source import WORLD, PreferenceSource

_PREVIEW_READS = 100


class PreferenceDataset(AbstractDataset[NoReturn, PreferenceSource]):
    """``PreferenceDataset`` loads preference pairs from files, URLs or the hub.

    It knows the formats below and is read-only. What is loaded is a
    ``PreferenceSource``, which streams the pairs when they are asked for.

    Examples:
        Using the [YAML API](https://docs.kedro.org/en/stable/catalog-data/data_catalog_yaml_examples/):

        ```yaml
        raw_preferences:
          type: ser_kedro.datasets.preference_dataset.PreferenceDataset
          format: pairs
          path: data/01_raw/my_pairs.jsonl.gz
          test_path: data/01_raw/my_test_pairs.jsonl.gz
          single_turn: false
        ```

        Using the [Python API](https://docs.kedro.org/en/stable/catalog-data/advanced_data_catalog_usage/):

        >>> from ser_kedro.datasets.preference_dataset import PreferenceDataset
        >>>
        >>> dataset = PreferenceDataset(format="hh", path=tmp_path / "hh.jsonl")
        >>> source = dataset.load()
        >>> pairs = list(source.pairs("train"))

    """

    def __init__(
        self,
        *,
        format: str | None = AUTO,
        path: str | None = None,
        test_path: str | None = None,
        columns: dict[str, str] | None = None,
        preference: str | None = None,
        pool_path: str | None = None,
        pool_format: str | None = AUTO,
        pool_columns: dict[str, str] | None = None,
        pool_labels: str = "ignore",
        pool_pairs_per_prompt: int = 1,
        single_turn: bool = False,
        world: dict[str, Any] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Creates a new instance of ``PreferenceDataset``; nothing is read yet.

        Args:
            format: Name of the format (docs/data.md), or ``auto``, which looks.
            path: File, folder or URL that fsspec knows, or
                ``hub://OWNER/NAME?split=train``. A relative path may start at the
                working directory or at the project's root.
            test_path: The same, of pairs that are kept for testing.
            columns: Names of columns by what they mean, such as
                ``{prompt: question}``.
            preference: What the values of the preference mean: ``index``,
                ``index_from_1``, ``difference``, ``difference_b``, ``is_a``,
                ``probability`` or ``name``. Guessed if ``None``.
            pool_path: The same as ``path``, of answers without labels or of prompts.
            pool_format: As ``format``, of the pool.
            pool_columns: As ``columns``, of the pool.
            pool_labels: Labels that the pool has are not read (``ignore``), or kept
                for evaluation alone (``audit``).
            pool_pairs_per_prompt: Pairs at most of the answers in a row of the pool.
            single_turn: Whether to keep only the last user turn of every prompt.
            world: Parameters of the ``demo_world``, which has no path; not read for
                another format.
            metadata: Any arbitrary metadata.
                This is ignored by Kedro, but may be consumed by users or external
                plugins.
        """
        self._fields = {
            "format": format,
            "path": None if path is None else str(path),
            "test_path": None if test_path is None else str(test_path),
            "columns": columns or {},
            "preference": preference,
            "pool_path": None if pool_path is None else str(pool_path),
            "pool_format": pool_format,
            "pool_columns": pool_columns or {},
            "pool_labels": pool_labels,
            "pool_pairs_per_prompt": pool_pairs_per_prompt,
            "single_turn": single_turn,
            "world": world if format == WORLD else None,
        }
        self.metadata = metadata

    def _describe(self) -> dict[str, Any]:
        return dict(self._fields)

    def _load(self) -> PreferenceSource:
        if self._fields["format"] != WORLD and self._fields["path"] is None:
            raise DataError("no data yet in this environment; give --params path=FILE")
        try:
            return PreferenceSource.model_validate(self._fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"raw preferences: {where}: {first['msg']}") from error

    def _save(self, data: NoReturn) -> NoReturn:
        raise DatasetError(f"'{type(self).__name__}' is a read-only dataset type")

    def _exists(self) -> bool:
        try:
            return self._load().exists()
        except DataError:
            return False

    def preview(self, nrows: int = 5) -> TablePreview:
        """Generate a preview of the dataset with a specified number of pairs.

        Args:
            nrows: The number of pairs to include in the preview. Defaults to 5.

        Returns:
            dict: A dictionary containing the data in a split format.
        """
        # In a file of another format every row is bad: do not read it to its end.
        items = islice(self._load().pairs("train"), nrows + _PREVIEW_READS)
        pairs = list(islice((i for i in items if isinstance(i, Pair)), nrows))
        return TablePreview(
            {
                "index": list(range(len(pairs))),
                "columns": ["prompt", "chosen", "rejected", "source"],
                "data": [
                    [_render(pair), pair.chosen, pair.rejected, pair.source]
                    for pair in pairs
                ],
            }
        )


def _render(pair: Pair) -> str:
    return "\n\n".join(f"{turn.role}: {turn.content}" for turn in pair.prompt)
