"""The plan as text."""

from __future__ import annotations

from tabulate import tabulate

from ser_kedro.planning.stages import Plan, Stage

_MODES = {
    "fp32": "weights and arithmetic in fp32",
    "autocast": "weights in fp32, bf16 by autocast",
    "bf16": "weights in bf16, fp32 copies of what is trained",
}
# Above this share of a device a plan is no promise: estimates are that good.
_TIGHT = 0.9
_HINT = (
    "try more devices, --zero 3, LoRA, gradient_checkpointing or a smaller micro batch"
)
_HINTS = {
    "ppo": "each device holds whole models there: try LoRA, larger devices or a"
    " smaller model"
}


def render(plan: Plan) -> str:
    """Return the plan for a terminal."""
    blocks = [_head(plan), _table(plan), *_verdicts(plan), "", *_rest(plan)]
    return "\n".join(blocks)


def gigabytes(count: float) -> str:
    """Return bytes in units of 10^9, with digits enough to tell them apart."""
    amount = count / 1e9
    return f"{amount:,.1f} GB" if amount >= 1 else f"{amount:.3f} GB"


def _head(plan: Plan) -> str:
    devices = plan.devices
    memory = (
        f" x {gigabytes(devices.memory_bytes)}"
        if devices.memory_bytes is not None
        else " (memory unknown)"
    )
    zero = f"ZeRO-{devices.zero_stage}" if devices.zero_stage else "no ZeRO"
    if devices.offload != "none":
        zero += f" with {devices.offload} on the host"
    kind = "device" if devices.count == 1 else "devices"
    return (
        f"Plan of {plan.model} on {devices.count} {kind}{memory}, {zero};"
        f" {_MODES[plan.mode]}.\n{plan.start}.\n"
    )


def _table(plan: Plan) -> str:
    rows = [
        {
            "stage": stage.name,
            "parameters": f"{stage.shape.parameters:,}",
            "trainable": _trainable(stage),
            "weights": gigabytes(stage.memory.weights),
            "gradients": gigabytes(stage.memory.gradients),
            "optimiser": gigabytes(stage.memory.optimizer),
            "activations": gigabytes(stage.memory.activations),
            "all": gigabytes(stage.memory.total),
            "at once": stage.batch,
        }
        for stage in plan.stages
    ]
    return str(tabulate(rows, headers="keys", disable_numparse=True))


def _trainable(stage: Stage) -> str:
    return "0" if stage.name == "labelling" else f"{stage.shape.trainable:,}"


def _verdicts(plan: Plan) -> list[str]:
    room = plan.devices.memory_bytes
    reserve = max(stage.memory.reserve for stage in plan.stages)
    note = "Memory of one device, an estimate."
    if reserve:
        note += f" All of it includes {gigabytes(reserve)} for the device's libraries."
    if host := max(stage.memory.host for stage in plan.stages):
        note += f" On the host, for each device: {gigabytes(host)}."
    lines = ["", note, ""]
    if room is None:
        return [*lines, "Give --device-memory 80GB to hear whether it fits."]
    return [*lines, *(_verdict(stage, room) for stage in plan.stages)]


def _verdict(stage: Stage, room: int) -> str:
    free = room - stage.memory.total
    share = 100 * stage.memory.total / room
    if free < 0:
        hint = _HINTS.get(stage.name, _HINT)
        return (
            f"WARNING: {stage.name} does not fit: it exceeds device memory by"
            f" {gigabytes(-free)}; {hint}"
        )
    tight = " (tight: an estimate is no measurement)" if share > 100 * _TIGHT else ""
    return f"{stage.name} fits: {gigabytes(free)} free, {share:.0f} % used{tight}"


def _rest(plan: Plan) -> list[str]:
    disk = plan.disk
    lines = [
        f"Disk: {gigabytes(disk.models)} for {disk.count} models (the start, seed,"
        f" {plan.loops} loops{_for_folds(plan)}), {gigabytes(disk.checkpoints)} for"
        " checkpoints while one trains, "
        + (
            f"{gigabytes(disk.tables)} for tables."
            if disk.tables is not None
            else "tables unknown without the data."
        )
    ]
    if plan.steps:
        counted = ", ".join(f"{name} {count:,}" for name, count in plan.steps.items())
        lines.append(f"Optimiser steps: {counted}.")
    else:
        lines.append(
            "Optimiser steps: unknown until the data are split (kedro run --pipelines"
            " data_split with the same --env and --params)."
        )
    return [*lines, _jobs(plan), *_times(plan)]


def _for_folds(plan: Plan) -> str:
    return f", the same for each of {plan.folds} folds" if plan.folds else ""


def _times(plan: Plan) -> list[str]:
    if plan.times is None:
        return ["Time: not tried; it needs this machine (no --devices) and split data."]
    rows = [
        {
            "stage": stage.name,
            "time": _span(stage.low, stage.high),
            "tokens/s": f"{stage.speed:,.0f}",
            "precision": stage.precision,
        }
        for stage in (*plan.times.stages, plan.times.policy)
        if stage is not None
    ]
    return [
        "",
        "Time on this machine, by a trial of each stage:",
        "",
        str(tabulate(rows, headers="keys", disable_numparse=True)),
        "",
        "The whole run, without a policy:"
        f" {_span(plan.times.low, plan.times.high)}. The first figure is for loops that"
        " stop early and select nothing, the second for all loops with the whole pool,"
        " each with the trial's error.",
    ]


def _span(low: float, high: float) -> str:
    first, last = duration(low), duration(high)
    return first if first == last else f"{first} to {last}"


def duration(seconds: float) -> str:
    """Return seconds in words, with digits enough for a plan."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.2g} {unit}"
    return f"{max(1, round(seconds))} s"


def _jobs(plan: Plan) -> str:
    work = plan.work
    if work.unknown is not None:
        return f"Jobs in the store: not looked up ({work.unknown})"
    found = ", ".join(f"{stage} {count}" for stage, count in work.finished.items())
    rest = (
        f"next is {work.missing}"
        if work.missing
        else "nothing is left to do up to the evaluation"
    )
    return f"Jobs in the store already: {found or 'none'}; {rest}."
