"""Views of a response: what a frozen model makes of it at some depth.

Different depths and poolings of one pretrained network see different things in one
text, so models that are trained on them err in different places.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ser_kedro.models import pack
from ser_kedro.models.pack import Row
from ser_kedro.models.params import View
from ser_kedro.models.scorer import Scorer


@dataclass
class ViewScorer(Scorer):
    """Gives, behind what the head gives, a response's views one after the other.

    Attributes:
        views: Which.
    """

    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        """Keep what the model's base gives, layer by layer."""
        model: Any = self.model
        base = model.base_model
        base.register_forward_pre_hook(_ask_for_layers, with_kwargs=True)
        base.register_forward_hook(self._keep)
        self._outputs: Any = None

    def _keep(self, base: Any, inputs: Any, outputs: Any) -> None:
        self._outputs = outputs

    @torch.inference_mode()
    def _forward(self, rows: list[Row], packed: bool) -> np.ndarray:
        head = super()._forward(rows, packed)
        outputs, self._outputs = self._outputs, None
        inputs = pack.collate(rows, self.encoder.tokenizer.pad_token_id, packed=packed)
        if not packed:
            inputs = _places(rows, inputs["attention_mask"])
        device = outputs.last_hidden_state.device
        segments, ends = (inputs[name].to(device) for name in ("segments", "ends"))
        seen = response_views(outputs, self.views, segments, ends)
        return np.concatenate([head, seen.cpu().numpy()], 1)


def _ask_for_layers(base: Any, inputs: Any, options: dict[str, Any]) -> Any:
    return inputs, {**options, "output_hidden_states": True}


def response_views(
    outputs: Any, views: tuple[View, ...], segments: Tensor, ends: Tensor
) -> Tensor:
    """Return the views of the responses in some rows.

    Args:
        outputs: Of the model's base for these rows, with the states of all layers.
        views: Which views.
        segments: Shape ``(rows, length)``: 0 in a prompt, the number of a response
            from 1, and -1 in padding.
        ends: Where each response ends, counted through all rows, shape ``(n,)``.

    Returns:
        Shape ``(n, len(views) * hidden)``, float32.
    """
    layers = outputs.hidden_states
    owner = _owner(segments)
    found = []
    for view in views:
        depth = round(view.depth * (len(layers) - 1))
        last = depth == len(layers) - 1
        states = (outputs.last_hidden_state if last else layers[depth]).flatten(0, 1)
        if view.pool == "last":
            found.append(states[ends].float())
            continue
        mean = torch.zeros(
            len(ends), states.shape[1], dtype=torch.float32, device=states.device
        )
        inside = owner >= 0
        mean.index_add_(0, owner[inside], states[inside].float())
        found.append(mean / torch.bincount(owner[inside], minlength=len(ends))[:, None])
    return torch.cat(found, 1)


def _owner(segments: Tensor) -> Tensor:
    """Return the response that each token belongs to, counted through all rows; or -1.

    Shape ``(rows * length,)``.
    """
    counts = segments.max(1).values
    before = counts.cumsum(0) - counts
    return torch.where(segments > 0, before[:, None] + segments - 1, -1).flatten()


def _places(rows: list[Row], mask: Tensor) -> dict[str, Tensor]:
    """Return ``segments`` and ``ends`` of plain rows, one a response."""
    starts = torch.tensor(
        [len(row.prompt) for row in rows for _ in row.tails], device=mask.device
    )
    place = torch.arange(mask.shape[1], device=mask.device)
    segments = torch.where(mask == 1, (place >= starts[:, None]).long(), -1)
    first = torch.arange(len(mask), device=mask.device) * mask.shape[1]
    return {"segments": segments, "ends": first + mask.sum(1) - 1}
