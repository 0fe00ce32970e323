"""How many loops the graph has, and what their datasets are called."""

from __future__ import annotations

import os

from ser_kedro.errors import ParameterError

MAX_LOOPS_VARIABLE = "SER_KEDRO_MAX_LOOPS"
DEFAULT_MAX_LOOPS = 4
NAMESPACE = "self_evolve"


def max_loops() -> int:
    """Return the number of loops in the graph.

    It comes from the environment and not from the parameters, so that ``kedro run``,
    ``kedro registry`` and ``kedro viz`` show the same graph.

    Raises:
        ParameterError: If the environment variable is not a whole number from 1.
    """
    text = os.environ.get(MAX_LOOPS_VARIABLE, str(DEFAULT_MAX_LOOPS))
    if not text.isdecimal() or int(text) < 1:
        raise ParameterError(
            f"{MAX_LOOPS_VARIABLE}={text}: must be a whole number from 1"
        )
    return int(text)


def loop_namespace(loop: int) -> str:
    """Return the namespace of a loop, from 1."""
    return f"{NAMESPACE}.loop_{loop}"


def loop_dataset(loop: int, name: str) -> str:
    """Return the catalog name of a loop's dataset; loop 0 is the seed."""
    return f"{loop_namespace(loop)}.{name}"
