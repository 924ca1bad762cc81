"""Unlabelled texts for the transfer set, streamed from files of any size, without those that the data set contains."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from distill.data.examples import UNLABELLED, Dataset, Example, example_id
from distill.data.formats.records import Columns
from distill.data.readers import stream_rows
from distill.errors import UserError

NEW, REPEATS = "unlabelled", "unlabelled_repeats"
KNOWN = {"train": "unlabelled_in_train", "dev": "unlabelled_in_dev", "test": "unlabelled_in_test"}


def read_unlabelled(
    paths: Sequence[str | Path], columns: Columns, dataset: Dataset
) -> tuple[list[Example], dict[str, int]]:
    """The distinct texts of the files that are not in ``dataset``, in order, with the label ``UNLABELLED``; and counts.

    A text in test or dev would be a leak, and one in train has a label already. They are dropped and counted as
    "unlabelled_in_test", "unlabelled_in_dev" and "unlabelled_in_train"; repeats are counted as "unlabelled_repeats",
    and the texts that remain as "unlabelled". Rows without text are skipped; labels are not read.

    Raises:
        UserError: a file is missing, empty, broken or without a column of texts, or no text is left.
    """
    known = {example.id: KNOWN[split] for split in KNOWN for example in getattr(dataset, split)}
    counts = dict.fromkeys((NEW, REPEATS, *KNOWN.values()), 0)
    examples: dict[int, Example] = {}
    for path in paths:
        for text in _texts(Path(path), columns):
            text_id = example_id(text)
            kind = known.get(text_id, REPEATS if text_id in examples else NEW)
            counts[kind] += 1
            if kind == NEW:
                examples[text_id] = Example(text_id, text, UNLABELLED)
    if paths and not examples:
        raise _no_new_texts(paths, counts)
    return list(examples.values()), counts


def _texts(path: Path, columns: Columns) -> Iterator[str]:
    """The texts of one file without empty ones."""
    is_empty = True
    for row in stream_rows(path, dataclasses.replace(columns, labelled=False)):
        if row.text:
            is_empty = False
            yield row.text
    if is_empty:
        raise UserError("the file is empty", path, "put at least one text into it, or leave it out of --unlabeled")


def _no_new_texts(paths: Sequence[str | Path], counts: dict[str, int]) -> UserError:
    where = " and ".join(f"in {split} ({counts[name]})" for split, name in KNOWN.items() if counts[name])
    return UserError(
        f"no text is left: all {sum(counts.values())} texts are {where}",
        ", ".join(str(path) for path in paths),
        "--unlabeled with texts that are not in the data set",
    )
