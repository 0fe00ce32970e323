"""Seed and full-label accuracy of the demo world: the two figures that fix its knobs.

Usage: python scripts/headroom.py [--seeds 2] [parameter=value ...]

What self-evolution gains is not computed here, and must not be when knobs are set.
"""

from __future__ import annotations

import argparse
import logging

from demo_road import accuracy, build, parse_overrides

from ser_kedro.ablations import arms


def main() -> None:
    """Print one line a seed."""
    logging.basicConfig(level=logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    overrides = parse_overrides(arguments.overrides)
    for seed in range(arguments.seeds):
        road, tables = build(seed, overrides)
        test_pairs = tables["test_pairs"]
        seed_accuracy = accuracy(road, road.seed_model(), test_pairs)
        full_accuracy = accuracy(road, arms.full(road).model, test_pairs)
        print(f"seed={seed} seed={seed_accuracy:.1%} full={full_accuracy:.1%}")


if __name__ == "__main__":
    main()
