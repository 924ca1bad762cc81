"""Read data in many formats into one checked :class:`Dataset`: train, dev and test."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from distill.config import DataSettings
from distill.data.demo import LABELS, read_reviews, read_sentences
from distill.data.examples import UNLABELLED, Dataset, Example, example_id, text_key
from distill.data.formats import FORMATS
from distill.data.formats.records import Columns
from distill.data.labels import find_labels, label_indices
from distill.data.readers import read_rows
from distill.data.splits import stratified_split, without_leaks, without_repeats
from distill.data.unlabelled import read_unlabelled
from distill.errors import UserError

__all__ = [
    "UNLABELLED",
    "Columns",
    "Dataset",
    "Example",
    "example_id",
    "load",
    "read_sentences",
    "read_unlabelled",
    "stratified_split",
    "text_key",
    "without_leaks",
]

SPLIT_NAMES = {"train": ("train",), "dev": ("dev", "valid", "val"), "test": ("test",)}
TEST_SEED = 0  # a held-out test set does not depend on the run's seed


def load(settings: DataSettings, seed: int) -> Dataset:
    """Read, check and split a data set. The same settings and seed give the same split.

    Train texts that occur in dev or test are dropped. If a train text is repeated, its first row is kept; a train text
    with two labels is dropped. ``Dataset.counts`` reports all of this. Without a dev or test file, a stratified tenth
    of train is held out. Without any file, the data are the embedded reviews.

    Raises:
        UserError: a file is missing or broken, train has fewer than two classes, or no text is left for a split.
    """
    files = _files(settings)
    if not files:
        return _checked({"train": read_reviews()}, LABELS, seed)
    return _checked(*_read_files(files, settings), seed)


def _files(settings: DataSettings) -> dict[str, Path]:
    """The file of each split: those of the flags, then those in the folder."""
    flags = {"train": settings.train_file, "dev": settings.dev_file, "test": settings.test_file}
    files = {split: Path(path) for split, path in flags.items() if path}
    if settings.data:
        folder = Path(settings.data)
        if not folder.is_dir():
            raise UserError("no such folder", folder, "--data FOLDER with train and test files; see data/README.md")
        files = {**_folder_files(folder, files.keys()), **files}
    if (files or settings.data) and "train" not in files:
        raise UserError("there is no train file", settings.data or None, "name it train.json, or --train_file FILE")
    return files


def _folder_files(folder: Path, skip: Collection[str]) -> dict[str, Path]:
    """The folder's files of the splits that are not in ``skip``."""
    files = {}
    for split, names in SPLIT_NAMES.items():
        if split in skip:
            continue
        paths = [path for name in names for suffix in FORMATS if (path := folder / f"{name}{suffix}").is_file()]
        if len(paths) > 1:
            raise UserError(f"two files for {split}: {paths[0].name}, {paths[1].name}", folder, f"--{split}_file FILE")
        if paths:
            files[split] = paths[0]
    return files


def _read_files(files: dict[str, Path], settings: DataSettings) -> tuple[dict[str, list[Example]], tuple[str, ...]]:
    columns = Columns(settings.text_column, settings.label_column)
    rows = {split: read_rows(path, columns) for split, path in files.items()}
    labels = find_labels(files["train"].parent, rows["train"])
    splits = {}
    for split, path in files.items():
        indices = label_indices(labels, rows[split], path)
        splits[split] = [
            Example(example_id(row.text), row.text, index) for row, index in zip(rows[split], indices, strict=True)
        ]
    return splits, labels.names


def _checked(splits: dict[str, list[Example]], labels: tuple[str, ...], seed: int) -> Dataset:
    """Drop leaks and repeats, hold out what is missing, and count everything."""
    rows_read = len(splits["train"])
    train, leaks = without_leaks(splits["train"], splits.get("test", []))
    train, dev_leaks = without_leaks(train, splits.get("dev", []))
    train, duplicates, conflicts = without_repeats(train)
    if "test" not in splits:
        train, splits["test"] = stratified_split(train, TEST_SEED)
    if "dev" not in splits:
        train, splits["dev"] = stratified_split(train, seed)
    dev, dev_in_test = without_leaks(splits["dev"], splits["test"])
    test = splits["test"]
    counts = {
        "train": len(train),
        "dev": len(dev),
        "test": len(test),
        "train_rows_read": rows_read,
        "leaks": leaks,
        "leaks_into_dev": dev_leaks,
        "dev_leaks": dev_in_test,
        "duplicates": duplicates,
        "conflicts": conflicts,
        "test_distinct": len({example.id for example in test}),
    }
    _check_classes(train, labels)
    for split, held_out in (("dev", dev), ("test", test)):
        if not held_out:
            raise UserError(f"no text is left for {split}", None, f"add texts, or --{split}_file FILE")
    return Dataset(tuple(train), tuple(dev), tuple(test), labels, counts)


def _check_classes(train: list[Example], labels: tuple[str, ...]) -> None:
    present = {example.label for example in train}
    if len(present) < 2:
        only = ", ".join(labels[label] for label in present) or "none"
        raise UserError(f"train has fewer than two classes ({only})", None, "add texts of at least one more class")
