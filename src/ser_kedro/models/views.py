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
from ser_kedro.models.packed_rows import base_outputs
from ser_kedro.models.params import View
from ser_kedro.models.scorer import Scorer


@dataclass
class ViewScorer(Scorer):
    """Gives, in place of a reward, a response's views one after the other.

    Attributes:
        views: Which.
    """

    views: tuple[View, ...] = ()

    @torch.inference_mode()
    def _forward(self, rows: list[Row], packed: bool) -> np.ndarray:
        device = self.model.device
        inputs = pack.collate(rows, self.encoder.tokenizer.pad_token_id, packed=packed)
        inputs = {name: value.to(device) for name, value in inputs.items()}
        if not packed:
            inputs |= _places(rows, inputs["attention_mask"])
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            found = response_views(self.model, self.views, **inputs)
        return found.cpu().numpy()


def response_views(
    model: Any,
    views: tuple[View, ...],
    *,
    input_ids: Tensor,
    segments: Tensor,
    ends: Tensor,
    position_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
) -> Tensor:
    """Return the views of the responses in some rows.

    Args:
        model: The model; only its base is called.
        views: Which views.
        input_ids: Shape ``(rows, length)``.
        segments: Of the same shape: 0 in a prompt, the number of a response from 1, and
            -1 in padding.
        ends: Where each response ends, counted through all rows, shape ``(n,)``.
        position_ids: Of packed rows.
        attention_mask: Of plain rows.

    Returns:
        Shape ``(n, len(views) * hidden)``, float32.
    """
    if attention_mask is None:
        assert position_ids is not None
        outputs = base_outputs(
            model, input_ids, position_ids, segments, output_hidden_states=True
        )
    else:
        outputs = model.base_model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            output_hidden_states=True,
        )
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
