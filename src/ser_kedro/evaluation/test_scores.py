"""The scores of the test pairs, by loop."""

from __future__ import annotations

from pydantic import RootModel

from ser_kedro.store.references import TableRef


class TestScores(RootModel[dict[int, TableRef]]):
    """Scores of the test pairs by the loop whose model gave them; 0 is the seed's."""

    __test__ = False  # pytest takes it for a test
