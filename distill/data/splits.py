"""Splits without the usual faults of public data sets: texts in train and test, repeats, texts with two labels."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

from distill.data.examples import Example, Label

Item = TypeVar("Item")
HELD_OUT_SHARE = 0.1


def without_repeats(examples: Sequence[Example]) -> tuple[list[Example], int, int]:
    """The first example of each text, without texts that have two labels.

    Returns:
        The examples, the number of repeats dropped, and the number of texts dropped because of two labels.
    """
    labels_of: dict[int, set[Label]] = defaultdict(set)
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

    At least one example of a class is held out if the class has two. In multi-label data the rarest class is dealt out
    first: Sechidis, Tsoumakas and Vlahavas 2011, "On the Stratification of Multi-Label Data", ECML PKDD, algorithm 1.
    """
    choose = _held_out_sets if any(isinstance(example.label, frozenset) for example in examples) else _held_out
    held_out = choose(examples, random.Random(seed), share)
    rest = [example for example in examples if example.id not in held_out]
    return rest, [example for example in examples if example.id in held_out]


def _held_out(examples: Sequence[Example], rng: random.Random, share: float) -> set[int]:
    """The ids of a share of each class."""
    by_class: dict[Any, list[Example]] = defaultdict(list)
    for example in examples:
        by_class[example.label].append(example)
    held_out: set[int] = set()
    for _, group in sorted(by_class.items()):
        held_out.update(example.id for example in rng.sample(group, _count(len(group), share)))
    return held_out


def _held_out_sets(examples: Sequence[Example], rng: random.Random, share: float) -> set[int]:
    """The ids of a share of each class, where a text has any number of them: from the rarest class that is left on."""
    left: dict[int | None, dict[int, Example]] = defaultdict(dict)  # by class, and None: without any
    for example in examples:
        for index in example.classes or (None,):
            left[index][example.id] = example
    without = list(left.pop(None, {}).values())
    held_out = {example.id for example in rng.sample(without, _count(len(without), share))}
    wanted = {index: _count(len(group), share) for index, group in left.items()}
    while left:
        rarest = min(left, key=lambda index: (len(left[index]), index))
        group = list(left[rarest].values())
        chosen = rng.sample(group, min(max(wanted[rarest], 0), len(group)))
        held_out.update(example.id for example in chosen)
        for index in (index for example in chosen for index in example.classes):
            wanted[index] -= 1
        for example in group:
            for index in example.classes:
                del left[index][example.id]
        del left[rarest]
    return held_out


def _count(size: int, share: float) -> int:
    """How many of a group are held out: at least one, unless there is only one."""
    return max(round(size * share), int(size > 1))


def evenly_spaced(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """At most ``limit`` items, evenly spaced because a file may be sorted."""
    return [items[index * len(items) // limit] for index in range(limit)] if len(items) > limit else items
