"""The prompts of the demo world: an ask, a thing, an occasion and a tail."""

from __future__ import annotations

import re
from math import prod

import numpy as np

ASKS = (
    "How should I go about",
    "Give me some advice on",
    "I need a hand with",
    "What is the best way of",
    "Could you walk me through",
    "Tell a beginner about",
    "Where do people go wrong when",
    "My sister keeps asking about",
    "Write a few sentences on",
    "Is it worth my time",
    "Please outline an approach to",
    "Any tricks I should know for",
    "Why is everybody suddenly",
    "Talk me out of",
    "Help, tomorrow I start",
    "What would an expert say about",
    "Summarise what matters in",
    "Can two people share the work of",
    "List the main steps of",
    "I have never tried",
)
TOPICS: dict[str, tuple[str, ...]] = {
    "kitchen": (
        "baking sourdough bread",
        "pickling cucumbers",
        "roasting a chicken",
        "making tomato soup",
        "cooking rice properly",
        "freezing leftovers",
        "frying dumplings",
        "planning a dinner menu",
    ),
    "garden": (
        "growing strawberries",
        "pruning roses",
        "composting leaves",
        "watering houseplants",
        "planting an apple tree",
        "getting rid of slugs",
        "raising seedlings",
        "mowing a steep lawn",
    ),
    "home": (
        "painting the hallway",
        "fixing a dripping tap",
        "hanging heavy shelves",
        "insulating the attic",
        "cleaning old windows",
        "moving to another flat",
        "removing carpet stains",
        "oiling a wooden floor",
    ),
    "study": (
        "learning Portuguese verbs",
        "revising for chemistry",
        "memorising a poem",
        "reading dense textbooks",
        "taking lecture notes",
        "preparing an oral exam",
        "solving geometry puzzles",
        "writing a term paper",
    ),
    "travel": (
        "packing for Norway",
        "booking night trains",
        "crossing a desert by bus",
        "hiking with toddlers",
        "visiting Lisbon cheaply",
        "camping in the rain",
        "sailing around islands",
        "getting over jet lag",
    ),
    "work": (
        "asking for a raise",
        "leading weekly meetings",
        "quitting politely",
        "training new colleagues",
        "answering angry customers",
        "organising invoices",
        "switching careers",
        "giving honest feedback",
    ),
    "craft": (
        "knitting thick socks",
        "carving a spoon",
        "binding notebooks",
        "restoring old bicycles",
        "sewing curtains",
        "glazing clay bowls",
        "folding paper cranes",
        "dyeing wool with plants",
    ),
    "health": (
        "sleeping better",
        "running a first marathon",
        "stretching stiff shoulders",
        "cutting down on sugar",
        "walking every morning",
        "sitting all day long",
        "starting yoga at sixty",
        "drinking less coffee",
    ),
}
OCCASIONS = (
    "on a tight budget",
    "with only one free evening",
    "before my parents arrive",
    "in a tiny apartment",
    "without special equipment",
    "during a heat wave",
    "for a class of ten children",
    "after a long break",
    "while the baby sleeps",
    "despite my bad knee",
    "in the middle of winter",
    "with help from neighbours",
    "and still enjoy it",
    "using what I already own",
    "next to a full-time job",
    "if money does not matter",
    "for someone very impatient",
    "at my grandmother's place",
    "as part of a school project",
    "under a strict deadline",
    "together with old friends",
    "when everything else has failed",
    "far away from any shop",
    "like professionals do",
)
TAILS = (
    "",
    " Keep it brief.",
    " I get nervous easily.",
    " My last attempt ended badly.",
    " Money is not the problem.",
    " Assume I know nothing yet.",
    " We have two big dogs.",
    " It should be fun as well.",
    " The internet was no use.",
    " No jargon if possible.",
    " Our landlord is rather strict.",
    " Time is what I lack most.",
    " Dad says it cannot be done.",
    " Mistakes would be expensive.",
    " An honest opinion, please.",
    " Somebody here is allergic to dust.",
)

_TOPIC_OF = {thing: t for t, things in enumerate(TOPICS.values()) for thing in things}
_THING = re.compile("|".join(map(re.escape, _TOPIC_OF)))
_SLOTS = (ASKS, tuple(_TOPIC_OF), OCCASIONS, TAILS)
_PROMPTS = prod(map(len, _SLOTS))
_MIXER = 305_419_897  # Has no factor in common with _PROMPTS.

MOST_PROMPTS = _PROMPTS // 2


def draw_prompts(
    rng: np.random.Generator, size: int, repeated: float, *, test: bool
) -> list[str]:
    """Draw prompts for one part of the world.

    Args:
        rng: The stream of that part.
        size: How many, at most ``MOST_PROMPTS``.
        repeated: Share of them that are copies of others, in [0, 1).
        test: Whether they are for the test: no prompt is on both sides.

    Returns:
        The prompts, of length ``size``, in random order.
    """
    distinct = max(1, size - round(size * repeated))
    # Each side has its half of the numbers; a multiplication mixes the halves, so that
    # the words of both sides are the same.
    drawn = rng.choice(MOST_PROMPTS, distinct, replace=False) + MOST_PROMPTS * test
    drawn = drawn * _MIXER % _PROMPTS
    again = rng.integers(0, distinct, size - distinct)
    codes = rng.permutation(np.concatenate([drawn, drawn[again]]))
    return [_prompt(code) for code in codes.tolist()]


def _prompt(code: int) -> str:
    chosen = []
    for slot in reversed(_SLOTS):
        code, place = divmod(code, len(slot))
        chosen.append(slot[place])
    tail, occasion, thing, ask = chosen
    return f"{ask} {thing} {occasion}?{tail}"


def topic_of(prompt: str) -> int:
    """Return the number of the topic that a text asks about, or -1."""
    found = _THING.search(prompt)
    return _TOPIC_OF[found.group()] if found else -1
