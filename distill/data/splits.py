"""Splits without the usual faults of public data sets: texts in train and test, repeats, texts with two labels."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import TypeVar

from distill.data.examples import Example

Item = TypeVar("Item")
HELD_OUT_SHARE = 0.1


def without_repeats(examples: Sequence[Example]) -> tuple[list[Example], int, int]:
    """The first example of each text, without texts that have two labels.

    Returns:
        The examples, the number of repeats dropped, and the number of texts dropped because of two labels.
    """
    labels_of: dict[int, set[int]] = defaultdict(set)
    first: dict[int, Example] = {}
    for example in examples:
        labels_of[example.id].add(example.label)
        first.setdefault(example.id, example)
    kept = [example for example in first.values() if len(labels_of[example.id]) == 1]
    return kept, len(examples) - len(first), len(first) - len(kept)


def without_leaks(examples: Sequence[Example], held_out: Sequence[Example]) -> tuple[list[Example], int]:
    """Examples whose text is not in ``held_out``, and the number of those dropped."""
    held_out_ids = {example.id for example in held_out}
    kept = [example for example in examples if example.id not in held_out_ids]
    return kept, len(examples) - len(kept)


def stratified_split(
    examples: Sequence[Example], seed: int, share: float = HELD_OUT_SHARE
) -> tuple[list[Example], list[Example]]:
    """Split at random into (rest, held out): the latter is a ``share`` of each class.

    At least one example of a class is held out if the class has two.
    """
    by_label: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        by_label[example.label].append(example)
    rng = random.Random(seed)
    held_out: set[int] = set()
    for _, group in sorted(by_label.items()):
        count = max(round(len(group) * share), int(len(group) > 1))
        held_out.update(example.id for example in rng.sample(group, count))
    rest = [example for example in examples if example.id not in held_out]
    return rest, [example for example in examples if example.id in held_out]


def evenly_spaced(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """At most ``limit`` items, evenly spaced because a file may be sorted."""
    return [items[index * len(items) // limit] for index in range(limit)] if len(items) > limit else items
