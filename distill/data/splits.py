"""Splits without the usual faults of public data sets: texts in train and test, repeats, texts with two labels."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
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
    wanted = {index: _count(n, share) for index, n in _class_sizes(examples).items()}
    left, held_out = list(examples), set[int]()
    while left:
        sizes = _class_sizes(left)
        rarest = min(sizes, key=lambda index: (sizes[index], index)) if sizes else None
        group = [example for example in left if rarest is None or rarest in example.classes]
        count = _count(len(group), share) if rarest is None else min(max(wanted[rarest], 0), len(group))
        chosen = rng.sample(group, count)
        for index, n in _class_sizes(chosen).items():
            wanted[index] -= n
        held_out.update(example.id for example in chosen)
        left = [example for example in left if rarest is not None and rarest not in example.classes]
    return held_out


def _class_sizes(examples: Sequence[Example]) -> Counter[int]:
    return Counter(index for example in examples for index in example.classes)


def _count(size: int, share: float) -> int:
    """How many of a group are held out: at least one, unless there is only one."""
    return max(round(size * share), int(size > 1))


def evenly_spaced(items: Sequence[Item], limit: int) -> Sequence[Item]:
    """At most ``limit`` items, evenly spaced because a file may be sorted."""
    return [items[index * len(items) // limit] for index in range(limit)] if len(items) > limit else items
