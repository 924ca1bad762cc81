"""Unlabelled texts for the transfer set: files of any size, read as a stream, without what the data set holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill.data.examples import UNLABELLED, Dataset, Example, example_id
from distill.data.formats.records import Columns
from distill.data.readers import stream_rows
from distill.errors import UserError

LEFT, REPEATS = "unlabelled", "unlabelled_repeats"
HELD = {"train": "unlabelled_in_train", "dev": "unlabelled_in_dev", "test": "unlabelled_in_test"}


def read_unlabelled(
    paths: Sequence[str | Path], columns: Columns, dataset: Dataset
) -> tuple[list[Example], dict[str, int]]:
    """The files' distinct texts that ``dataset`` lacks, in their order, labelled ``UNLABELLED``; and counts.

    A text of test or dev would be a leak, one of train has its label already: they are dropped and counted under
    "unlabelled_in_test", "unlabelled_in_dev" and "unlabelled_in_train", repeats under "unlabelled_repeats";
    "unlabelled" is how many are left. Rows without text are passed over, labels are not read.

    Raises:
        UserError: a file is missing, empty, broken or without a column of texts, or no text is left.
    """
    held = {example.id: HELD[split] for split in HELD for example in getattr(dataset, split)}
    counts = dict.fromkeys((LEFT, REPEATS, *HELD.values()), 0)
    kept: dict[int, Example] = {}
    for path in paths:
        for text in _texts(Path(path), columns):
            text_id = example_id(text)
            where = held.get(text_id, REPEATS if text_id in kept else LEFT)
            counts[where] += 1
            if where == LEFT:
                kept[text_id] = Example(text_id, text, UNLABELLED)
    if paths and not kept:
        raise _nothing_left(paths, counts)
    return list(kept.values()), counts


def _texts(path: Path, columns: Columns) -> Iterator[str]:
    """The texts of one file, empty ones passed over."""
    is_empty = True
    for row in stream_rows(path, dataclasses.replace(columns, labelled=False)):
        if row.text:
            is_empty = False
            yield row.text
    if is_empty:
        raise UserError("the file is empty", path, "put at least one text into it, or leave it out of --unlabeled")


def _nothing_left(paths: Sequence[str | Path], counts: dict[str, int]) -> UserError:
    where = " and ".join(f"in {split} ({counts[name]})" for split, name in HELD.items() if counts[name])
    return UserError(
        f"no text is left: all {sum(counts.values())} texts are {where}",
        ", ".join(str(path) for path in paths),
        "--unlabeled with texts that the data set does not hold",
    )
