"""In which precision to compute: where it is not said, in the faster one."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from ser_kedro.launch import rank
from ser_kedro.models.params import Precision
from ser_kedro.models.speed_trial import Use, seconds_a_token
from ser_kedro.store.json_io import read_json, write_json
from ser_kedro.store.layout import store_root

logger = logging.getLogger(__name__)

# Smaller models stay in fp32 untried: a trial would take longer than it saves.
SMALL = 50_000_000
# Half precision must pay this much: it costs digits.
_WORTH = 0.8
_FOLDER = "precision"
# What has been said in this process.
_said: set[Path] = set()
# What a configuration says that changes no speed.
_IDLE = ("_name_or_path", "transformers_version", "architectures", "dtype", "id2label")


def uses_bf16(precision: Precision, config: Any, use: Use) -> bool:
    """Say whether to compute in bf16.

    ``auto`` does on a GPU that has it. On a CPU some processors read several times
    faster in bf16 and train several times slower, so a trial of a few seconds decides;
    what it found stays in the store, so that a resumed run goes on as it began. Small
    models, and the processes of a launcher, compute in fp32 there.

    Args:
        precision: As in the parameters.
        config: Of the model.
        use: What for.
    """
    if precision != "auto" or torch.cuda.is_available() or rank.is_launched():
        return bf16_untried(precision)
    return _parameters(config) >= SMALL and _tried(config, use)


def bf16_untried(precision: Precision) -> bool:
    """Say the same without a model: ``auto`` is bf16 where a GPU has it."""
    gpu = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return precision == "bf16" or (precision == "auto" and gpu)


def _tried(config: Any, use: Use) -> bool:
    file = store_root() / _FOLDER / f"{_key(config, use)}.json"
    known = file.is_file()
    if not known:
        times = {
            name: seconds_a_token(config, use, bf16=name == "bf16")
            for name in ("fp32", "bf16")
        }
        write_json(file, {"model": config.model_type, "use": _plain(use), **times})
    found = read_json(file)
    faster = bool(found["bf16"] <= _WORTH * found["fp32"])
    usual = file in _said
    _said.add(file)
    logger.log(
        logging.DEBUG if usual else logging.INFO,
        "precision: auto is %s for %s: %.2f ms a token in fp32, %.2f in bf16 (%s)",
        "bf16" if faster else "fp32",
        use.task,
        1e3 * found["fp32"],
        1e3 * found["bf16"],
        file.relative_to(store_root().parent.parent) if known else "tried now",
    )
    return faster


def _parameters(config: Any) -> int:
    with torch.device("meta"):
        return int(AutoModel.from_config(config).num_parameters())


def _key(config: Any, use: Use) -> str:
    said = {k: v for k, v in config.to_dict().items() if k not in _IDLE}
    text = json.dumps([said, _plain(use)], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(use: Use) -> dict[str, Any]:
    lora = use.lora
    return {**asdict(use), "lora": lora and lora.model_dump(mode="json")}
