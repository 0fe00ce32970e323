"""How far packed rewards are from separate ones, for a real model on real pairs."""

from __future__ import annotations

from typing import Any

from benchmarks import pairs
from benchmarks import smollm2_pairs as smollm2
from benchmarks.child import arguments, hand_back
from benchmarks.common import Result, limited, run_child

PAIRS = 48


def measure() -> Result:
    """Compare rewards of packed and of plain rows in fp32 and in bf16."""
    smollm2.prepare()
    found = run_child("benchmarks.packing", "smollm2")
    rows = [
        limited(
            f"packed rewards of SmolLM2-135M in {name}, root mean square distance to"
            " plain fp32",
            "that of plain rewards in the same precision",
            "times",
            [found[f"{name}_packed_rms"] / found[f"{name}_plain_rms"]],
            "<= 3",
        )
        for name in ("fp32", "bf16")
    ]
    table = "\n".join(
        f"| {name} | {way} | {found[f'{name}_{way}_rms']:.1e} |"
        f" {found[f'{name}_{way}_max']:.1e} | {found[f'{name}_{way}_label']:.1e} |"
        for name in ("fp32", "bf16")
        for way in ("plain", "packed")
    )
    zoo = "\n".join(f"| {name} | {numbers} |" for name, numbers in found["zoo"].items())
    return Result(
        rows, _TEXT.format(pairs=PAIRS, table=table, zoo=zoo), title="Packing"
    )


_TEXT = """\
Rewards of {pairs} pairs of HH-RLHF (both responses), by SmolLM2-135M-Instruct with a
new head, beside those of rows read one at a time in fp32. Plain rows are read in padded
batches. Distances are shares of the rewards' spread; the last column is the largest
difference of σ(reward of one response less that of the other), the label.

| precision | rows | root mean square | largest | largest, label |
|---|---|---|---|---|
{table}

What the trial of `pack.enable` says of the architectures of the tests, random weights,
with bf16 autocast:

| architecture | choice |
|---|---|
{zoo}"""


def main() -> None:
    """Compare, and hand back the figures."""
    arguments()
    import torch

    from ser_kedro.models import pack
    from ser_kedro.models.encode import Encoder
    from ser_kedro.models.pack import Packing
    from ser_kedro.models.scorer import Scorer
    from tests.models import test_pack as zoo

    model = smollm2.new_model().eval()
    encoder = Encoder(smollm2.tokenizer(), pairs.MAX_LENGTH)
    encoded = smollm2.everything()[:PAIRS]
    packing = pack.enable(model, bf16=True)
    plain = Packing(False, "to compare with")

    def rewards(choice: Packing, tokens: int, *, bf16: bool) -> Any:
        scorer = Scorer(model, encoder, choice, tokens, bf16)
        return torch.tensor(scorer.rewards(encoded)).double()

    exact = rewards(plain, 1, bf16=False)
    found: dict[str, Any] = {}
    for name in ("fp32", "bf16"):
        for way, choice in (("plain", plain), ("packed", packing)):
            values = rewards(choice, 2048, bf16=name == "bf16")
            share = (values - exact).abs() / exact.std()
            labels = [(v[:, 0] - v[:, 1]).sigmoid() for v in (values, exact)]
            found[f"{name}_{way}_rms"] = float(share.square().mean().sqrt())
            found[f"{name}_{way}_max"] = float(share.max())
            found[f"{name}_{way}_label"] = float((labels[0] - labels[1]).abs().max())
    found["zoo"] = {
        name: str(pack.enable(zoo.random_model(config), bf16=True))
        for name, config in {**zoo.PACKED, **zoo.PLAIN}.items()
    }
    hand_back(found)


if __name__ == "__main__":
    main()
