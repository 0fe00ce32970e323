"""Models whose weights are sharded over the ranks (ZeRO 3): use them and save them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model
from torch import distributed
from transformers.integrations import deepspeed as integration

from ser_kedro.launch import rank
from ser_kedro.models.shortened import shortened


def is_zero3_enabled() -> bool:
    """Say whether weights are sharded over the ranks as they are loaded."""
    return bool(integration.is_deepspeed_zero3_enabled())


@contextmanager
def _whole_models() -> Iterator[None]:
    """Load models unsharded for once."""
    current = integration._hf_deepspeed_config_weak_ref()
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration.set_hf_deepspeed_config(current)


def init_new_weights(model: Any, names: Iterable[str], seed: int) -> None:
    """Initialise weights that no file had, as one process would.

    Args:
        model: A sharded model.
        names: Its new parameters.
        seed: As the process was seeded before the model was loaded.
    """
    import deepspeed

    torch.manual_seed(seed)
    new = {name: model.get_parameter(name) for name in names}
    owners = {name.rpartition(".")[0] for name in new}
    with deepspeed.zero.GatheredParameters(list(new.values()), modifier_rank=0):
        for parameter in new.values():
            parameter._is_hf_initialized = False  # or transformers would not draw it
        for name, module in model.named_modules():
            if name in owners:
                model._init_weights(module)


def probe(model: Any) -> Any:
    """Return a small unsharded model of the same architecture, with random weights.

    It has one layer and few tokens, and is otherwise as wide as the model is.
    """
    config = shortened(model.config, 1)
    config.vocab_size, config.pad_token_id = 64, 0
    with torch.random.fork_rng(devices=[]), _whole_models():
        return type(model)(config).eval()


class Zero3Model:
    """A sharded model: a rank's forward pass needs one of all others.

    Ranks may have more or fewer passes to make. Before each pass all ranks say whether
    they have one left, and a rank that has none takes part (``join``) until nobody has.
    """

    def __init__(self, engine: Any, adapter: Path | None = None) -> None:
        """Take DeepSpeed's engine, and where to save adapters if they are kept."""
        self.engine, self.adapter = engine, adapter

    @property
    def device(self) -> torch.device:
        """Where inputs belong."""
        return torch.device(self.engine.device)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights."""
        return next(iter(self.engine.module.parameters())).dtype

    def eval(self) -> Zero3Model:
        """Switch off dropout."""
        self.engine.eval()
        return self

    def __call__(self, **inputs: Any) -> Any:
        """Make a forward pass, while the others make theirs."""
        self._any_rank(at_work=True)
        return self.engine(**inputs)

    @torch.no_grad()
    def join(self) -> None:
        """Take part in the others' passes until none has any left."""
        row = torch.zeros((1, 2), dtype=torch.long, device=self.device)
        while self._any_rank(at_work=False):
            self.engine(input_ids=row, attention_mask=torch.ones_like(row))

    def _any_rank(self, *, at_work: bool) -> bool:
        count = torch.tensor(int(at_work), device=self.device)
        distributed.all_reduce(count)
        return bool(count)

    def save_pretrained(self, folder: Path) -> None:
        """Gather the weights, merge adapters, and let rank 0 write a plain folder."""
        weights = self.engine._zero3_consolidated_16bit_state_dict()
        if rank.is_main():
            model = _whole(self.engine.module, weights)
            if isinstance(model, PeftModel):
                if self.adapter is not None:
                    model.save_pretrained(self.adapter)
                model = model.merge_and_unload()
            model.save_pretrained(folder)
        rank.barrier()


def _whole(model: Any, weights: dict[str, torch.Tensor]) -> Any:
    """Return an unsharded copy of a sharded model, on the host."""
    adapted = isinstance(model, PeftModel)
    base = model.get_base_model() if adapted else model
    with torch.device("meta"), _whole_models():
        twin: Any = type(base)(base.config)
        if adapted:
            twin = get_peft_model(twin, model.peft_config[model.active_adapter])
    twin.load_state_dict(weights, assign=True)
    (twin.get_base_model() if adapted else twin).tie_weights()
    return twin


def initialize(model: Any) -> Zero3Model:
    """Return a model that was loaded sharded, ready for forward passes."""
    import deepspeed

    settings = {
        name: value
        for name, value in integration.deepspeed_config().items()
        if name not in ("optimizer", "scheduler")
    }
    zero = {
        name: value
        for name, value in settings["zero_optimization"].items()
        if value != "auto" and name != "offload_optimizer"
    }
    engine, *_ = deepspeed.initialize(
        model=model, config={**settings, "zero_optimization": zero}
    )
    return Zero3Model(engine).eval()
