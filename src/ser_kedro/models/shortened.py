"""Small models of a large model's architecture."""

from __future__ import annotations

import copy
from typing import Any


def shortened(config: Any, layers: int) -> Any:
    """Return a configuration of the same architecture with fewer layers."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config
