"""The checkpoint from which an interrupted training is resumed."""

from __future__ import annotations

import logging
import shutil
import zlib
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from safetensors import SafetensorError, safe_open

from ser_kedro.launch import rank
from ser_kedro.store.json_io import read_json, write_json

logger = logging.getLogger(__name__)

# Where a trainer keeps its checkpoints, in the workspace.
CHECKPOINTS = "trainer"
_DAMAGED = (SafetensorError, BadZipFile, zlib.error)
# By which ranks the checkpoints were written.
_LAYOUT = "layout.json"


def last_checkpoint(workspace: Path) -> str | None:
    """Return the newest complete checkpoint of an interrupted training, if any.

    The trainer writes its state last; a folder without one was cut off in mid-save.
    One with a damaged file is passed over, and named.
    """
    found = (workspace / CHECKPOINTS).glob("checkpoint-*/trainer_state.json")
    for folder in sorted((path.parent for path in found), key=_number, reverse=True):
        damaged = next((file for file in folder.iterdir() if not _is_whole(file)), None)
        if damaged is None:
            return str(folder)
        logger.warning("%s of %s is damaged: passed over", damaged.name, folder.name)
    return None


def _number(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def _is_whole(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            read_json(file)
        elif file.suffix == ".safetensors":
            safe_open(file, "numpy").keys()
        elif file.suffix in (".pt", ".pth"):
            with ZipFile(file) as archive:
                return archive.testzip() is None
    except (OSError, RuntimeError, ValueError, EOFError, *_DAMAGED):
        return False
    return True


def resumable(trainer: Any, workspace: Path) -> str | None:
    """Return the checkpoint to go on from; remove those that others cannot read.

    Under ZeRO each rank writes its own part of the optimiser, so as many ranks under
    the same stage must read it. Without, rank 0 writes all, and any ranks may go on.
    """
    plugin = trainer.args.deepspeed_plugin
    stage = plugin.zero_stage if plugin else 0
    layout = {"zero_stage": stage, "ranks": rank.world_size() if stage else None}
    file = workspace / CHECKPOINTS / _LAYOUT
    checkpoint = last_checkpoint(workspace)
    written = read_json(file) if file.is_file() else layout
    rank.barrier()  # all have read
    if checkpoint and written != layout:
        logger.warning(
            "%s was saved with %s and cannot be resumed with %s: restarting"
            " training from the initial weights",
            Path(checkpoint).name,
            _described(written),
            _described(layout),
        )
        checkpoint = None
    if checkpoint:
        logger.info("resuming training from %s", Path(checkpoint).name)
    if rank.is_main():
        if checkpoint is None:
            shutil.rmtree(workspace / CHECKPOINTS, ignore_errors=True)
        write_json(file, layout)
    rank.barrier()
    return checkpoint


def _described(layout: dict[str, Any]) -> str:
    if not layout["zero_stage"]:
        return "no ZeRO"
    return f"ZeRO {layout['zero_stage']} on {layout['ranks']} ranks"
