"""What every arm writes: the rewards of the test pairs, one row a pair and arm."""

from __future__ import annotations

import pyarrow as pa

# ``share`` is the share of the reward model's pairs that kept their human label;
# ``offset`` and ``temperature`` are the model's, fitted on validation pairs. The score
# a threshold sees is ``σ((reward - offset) / temperature)``. ``pair_id`` and ``group``
# (the prompt group) name the same pair and prompt in every arm and draw of one data
# set; the demo world is redrawn with the seed, so there they differ between draws.
# ``excess_length`` is that of the chosen response over the rejected one, in characters.
OUTCOMES = pa.schema(
    [
        ("data", pa.string()),
        ("share", pa.float64()),
        ("arm", pa.string()),
        ("seed", pa.int64()),
        ("pair_id", pa.string()),
        ("group", pa.string()),
        ("source", pa.string()),
        ("chosen_reward", pa.float32()),
        ("rejected_reward", pa.float32()),
        ("offset", pa.float64()),
        ("temperature", pa.float64()),
        ("excess_length", pa.int32()),
    ]
)
