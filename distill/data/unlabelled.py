"""Unlabelled texts for the transfer set, streamed from files of any size, without those that the data set contains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from distill.data.examples import UNLABELLED, Dataset, Example, example_id
from distill.data.readers import Reader
from distill.errors import UserError

NEW, REPEATS = "unlabelled", "unlabelled_repeats"
KNOWN = {"train": "unlabelled_in_train", "dev": "unlabelled_in_dev", "test": "unlabelled_in_test"}


def read_unlabelled(
    paths: Sequence[str | Path], reader: Reader, dataset: Dataset
) -> tuple[list[Example], dict[str, int]]:
    """The :func:`new_texts` of the files, in order. Rows without text are set aside; labels are not read.

    Raises:
        UserError: a file is missing, empty, damaged or without a column of texts, too many of its rows cannot be used,
            or no text is left.
    """
    examples, counts = new_texts(texts_of_files(paths, reader), dataset)
    if paths and not examples:
        raise _no_new_texts(paths, counts)
    return examples, counts


def new_texts(texts: Iterable[str], dataset: Dataset) -> tuple[list[Example], dict[str, int]]:
    """The distinct texts that are not in ``dataset``, in order, with the label ``UNLABELLED``; and counts.

    A text in test or dev would be a leak, and one in train has a label already. They are dropped and counted as
    "unlabelled_in_test", "unlabelled_in_dev" and "unlabelled_in_train"; repeats are counted as "unlabelled_repeats",
    and the texts that remain as "unlabelled".
    """
    known = {example.id: KNOWN[split] for split in KNOWN for example in getattr(dataset, split)}
    counts = dict.fromkeys((NEW, REPEATS, *KNOWN.values()), 0)
    examples: dict[int, Example] = {}
    for text in texts:
        text_id = example_id(text)
        kind = known.get(text_id, REPEATS if text_id in examples else NEW)
        counts[kind] += 1
        if kind == NEW:
            examples[text_id] = Example.of(text, UNLABELLED)
    return list(examples.values()), counts


def texts_of_files(paths: Sequence[str | Path], reader: Reader) -> Iterator[str]:
    """The texts of files, which are checked as they end.

    Raises:
        UserError: a file is missing, empty, damaged or without a column of texts, or too many of its rows cannot be
            used.
    """
    for path in map(Path, paths):
        rows = 0
        for rows, (row, _, _) in enumerate(reader.stream(path), 1):  # noqa: B007 (the count is used)
            yield row.text
        reader.check([path], rows)
        if not rows:
            raise UserError("the file is empty", path, "put at least one text into it, or leave it out")


def _no_new_texts(paths: Sequence[str | Path], counts: dict[str, int]) -> UserError:
    where = " and ".join(f"in {split} ({counts[name]})" for split, name in KNOWN.items() if counts[name])
    return UserError(
        f"no text is left: all {sum(counts.values())} texts are {where}",
        ", ".join(str(path) for path in paths),
        "--unlabeled with texts that are not in the data set",
    )
