"""What public data sets get wrong: texts in both train and test, repeated texts, texts with two labels."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from distill.data.examples import Example

HELD_OUT_SHARE = 0.1


def without_repeats(examples: Sequence[Example]) -> tuple[list[Example], int, int]:
    """The first example of every text that has one label only.

    Also how many repeats were dropped, and how many texts were dropped for having two labels.
    """
    labels_of: dict[int, set[int]] = defaultdict(set)
    first: dict[int, Example] = {}
    for example in examples:
        labels_of[example.id].add(example.label)
        first.setdefault(example.id, example)
    kept = [example for example in first.values() if len(labels_of[example.id]) == 1]
    return kept, len(examples) - len(first), len(first) - len(kept)


def without_leaks(examples: Sequence[Example], held_out: Sequence[Example]) -> tuple[list[Example], int]:
    """Examples whose text is not held out, and how many were dropped."""
    seen = {example.id for example in held_out}
    kept = [example for example in examples if example.id not in seen]
    return kept, len(examples) - len(kept)


def stratified_split(
    examples: Sequence[Example], seed: int, share: float = HELD_OUT_SHARE
) -> tuple[list[Example], list[Example]]:
    """(rest, chosen): of every class a ``share`` chosen at random, at least one where the class has two examples."""
    by_label: dict[int, list[Example]] = defaultdict(list)
    for example in examples:
        by_label[example.label].append(example)
    choose = random.Random(seed)
    chosen: set[int] = set()
    for _, group in sorted(by_label.items()):
        count = max(round(len(group) * share), int(len(group) > 1))
        chosen.update(example.id for example in choose.sample(group, count))
    rest = [example for example in examples if example.id not in chosen]
    return rest, [example for example in examples if example.id in chosen]
