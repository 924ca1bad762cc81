"""Read data in many formats into one checked :class:`Dataset`: train, dev and test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from distill.config import DataSettings
from distill.data.demo import LABELS, read_reviews
from distill.data.examples import UNLABELLED, Dataset, Example, example_id, text_key
from distill.data.files import find_archives, find_files
from distill.data.formats import open_file
from distill.data.formats.labelling import BadRow
from distill.data.formats.records import SEVERAL_LABELS, Columns, Row
from distill.data.hierarchy import AUTO, Hierarchy, find_hierarchy
from distill.data.labels import Labels, check_levels, find_labels
from distill.data.readers import PlacedRow, Reader, SetAside
from distill.data.splits import stratified_split, without_leaks, without_repeats
from distill.data.unlabelled import read_unlabelled, texts_of_files
from distill.errors import UserError, listed

__all__ = [
    "UNLABELLED",
    "Columns",
    "Dataset",
    "Example",
    "example_id",
    "from_memory",
    "is_labelled",
    "load",
    "load_texts",
    "read_unlabelled",
    "stratified_split",
    "text_key",
    "with_answers",
    "without_leaks",
]

FIRST_ROWS = 200  # that show whether a file has labels
SINGLE_LABEL = "; --single_label sets rows with several aside"
EACH_A_TASK = "; --single_label makes each column a task of its own"
TEST_SEED = 0  # a held-out test set does not depend on the run's seed
HoldOut = Callable[[str, list[Example], int], tuple[list[Example], list[Example]]]  # (split, train, seed)


def load(settings: DataSettings, seed: int, *, is_strict: bool = False) -> Dataset:
    """Read, check and split a data set. The same settings and seed give the same split.

    Rows that cannot be used are set aside. Train texts that occur in dev or test are dropped. If a train text is
    repeated, its first row is kept; a train text with two labels is dropped. ``Dataset.counts`` reports all of this.
    Without a dev or test file, a stratified tenth of train is held out. Without any file, the data are the embedded
    reviews.

    Args:
        settings: name the files and columns.
        seed: of the split into train and dev.
        is_strict: whether the first row that cannot be used is an error.

    Raises:
        UserError: a file is missing or damaged, too many of its rows cannot be used, train has fewer than two classes,
            or no text is left for a split.
    """
    files, unused = files_of(settings)
    if not files:
        return checked(Splits({"train": read_reviews()}, LABELS), seed)
    splits = read_splits(settings, files, unused, is_strict=is_strict)
    check_levels(settings.hierarchy, [splits.hierarchy])
    return checked(splits, seed)


def is_labelled(settings: DataSettings) -> bool:
    """Whether the train file has labels; True also if it cannot be read, which :func:`load` reports."""
    files, _ = files_of(settings)
    if not files or files["train"][0].is_dir():
        return True
    path = files["train"][0]
    columns = Columns(settings.text_column, settings.label_column, is_multi_label=settings.multi_label)
    return _has_rows(path, columns) or not _has_rows(path, Columns(settings.text_column, is_labelled=False))


def _has_rows(path: Path, columns: Columns) -> bool:
    """Whether one of the first rows of a file has what the columns ask for."""
    try:
        with open_file(path, columns) as file:
            if columns.is_labelled and not columns.is_multi_label:
                return any(isinstance(row, Row) and row.label for row in file.rows())
            return any(isinstance(row, Row) for row in islice(file.rows(), FIRST_ROWS))
    except UserError:
        return False


def load_texts(settings: DataSettings, unlabelled: Sequence[Path], reader: Reader) -> list[Example]:
    """The texts of data without labels, each once: those of the train file, or those of ``unlabelled``.

    Raises:
        UserError: a file is missing or damaged, too many of its rows cannot be used, or a dev or test file is named.
    """
    files, unused = files_of(settings)
    if held_out := [split for split in ("dev", "test") if split in files]:
        what = f"there is a {held_out[0]} file, but train has no labels"
        hint = "use the labelled texts as train, dev and test, and give those without labels to --unlabeled"
        raise UserError(what, files[held_out[0]][0], hint)
    if unused:
        reader.notes.append(f"not read: {', '.join(unused)}")
    paths = [*files["train"]] if files else list(unlabelled)
    return list({example_id(text): Example.of(text, UNLABELLED) for text in texts_of_files(paths, reader)}.values())


def with_answers(examples: list[Example], labels: tuple[str, ...], seed: int, reader: Reader) -> Dataset:
    """A data set whose labels are the teachers' answers to the texts, split like labelled data.

    Raises:
        UserError: the answers are of fewer than two classes, or no text is left for a split.
    """
    splits = Splits({"train": examples}, labels, reader.notes, reader.set_aside)
    dataset = checked(splits, seed)
    return dataclasses.replace(dataset, has_labels=False)


def files_of(settings: DataSettings) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of each split, those of the flags before those in the folder; and data files that are not read.

    Raises:
        UserError: there is no such folder, or no train file.
    """
    flags = {"train": settings.train_file, "dev": settings.dev_file, "test": settings.test_file}
    files = {split: [Path(path)] for split, path in flags.items() if path}
    unused: list[str] = []
    if settings.data:
        folder = Path(settings.data)
        if not folder.is_dir():
            what = "not a folder but a file" if folder.is_file() else "no such folder"
            raise UserError(what, folder, "--data FOLDER with train and test files; see data/README.md")
        in_folder, unused = find_files(folder, files.keys())
        files = {**in_folder, **files}
    if (files or settings.data) and "train" not in files:
        archives = find_archives(Path(settings.data)) if settings.data else []
        listed = f"; there are: {', '.join([*unused, *archives])}" if unused or archives else ""
        hint = f"unpack {archives[0]} first" if archives and not unused else "name it train.csv, or --train_file FILE"
        raise UserError(f"there is no train file{listed}", settings.data or None, f"{hint}; see data/README.md")
    return files, unused


@dataclass
class Splits:
    """The examples that files hold, before the checks for leaks and repeats, and what the reader decided.

    Attributes:
        examples: by the name of the split; "test" and "dev" are missing if they must be held out.
        labels, notes, set_aside, is_multi_label, hierarchy: see Dataset.
    """

    examples: dict[str, list[Example]]
    labels: tuple[str, ...]
    notes: Sequence[str] = ()
    set_aside: Sequence[SetAside] = ()
    is_multi_label: bool = False
    hierarchy: Hierarchy | None = None


def from_memory(
    examples: list[Example], labels: tuple[str, ...], *, is_multi_label: bool = False, hierarchy: str = AUTO
) -> Splits:
    """The splits of examples that no file holds: there is no test set, and dev must be held out.

    ``hierarchy`` is what separates the levels of labels that are paths, "auto" or "none".
    """
    levels = find_hierarchy(labels, hierarchy)
    return Splits({"train": examples, "test": []}, labels, is_multi_label=is_multi_label, hierarchy=levels)


def read_splits(
    settings: DataSettings,
    files: Mapping[str, Sequence[Path]],
    unused: Sequence[str] = (),
    *,
    is_strict: bool = False,
    task: str = "",
) -> Splits:
    """Read the files of the splits.

    With ``task``, the files hold several tasks and this one is in a column of its own: rows without a label are left
    out, and the file with the names of its classes is ``class.TASK.txt``.

    Raises:
        UserError: see :func:`load`.
    """
    if settings.multi_label and settings.single_label:
        raise UserError("--multi_label and --single_label exclude each other", "settings", "give one of them, or none")
    columns = Columns(settings.text_column, settings.label_column, is_multi_label=settings.multi_label)
    reader = Reader(columns, is_strict, skips_unlabelled=bool(task))
    first = files["train"][0]
    folders = [first if first.is_dir() else first.parent, *([Path(settings.data)] if settings.data else [])]
    is_multi_label = settings.multi_label if settings.multi_label or settings.single_label else None
    rows = {split: reader.read(paths) for split, paths in files.items()}
    of_train = [placed.row for placed in rows["train"]]
    labels = find_labels(folders, of_train, settings.hierarchy, is_multi_label=is_multi_label, task=task)
    if labels.file:
        reader.notes.append(f"{labels.file}: names of {len(labels.names)} classes")
    examples = {split: _labelled(rows[split], labels, reader) for split in files}
    for split, paths in files.items():
        reader.check(paths, len(examples[split]), may_have_several=is_multi_label is False)
    if reader.skipped:
        reader.notes.append(f"{reader.skipped:,} rows have no label for this task")
    if labels.is_multi_label:
        hint = EACH_A_TASK if "," in settings.label_column else SINGLE_LABEL
        reader.notes.append(_note_on_label_sets(examples["train"], labels, "" if is_multi_label else hint))
        if absent := _columns_of_zeros(of_train):
            what = f"no train row has the labels {absent}, whose columns hold no 1"
            reader.notes.append(f"{what}; they are classes nevertheless")
    aside = sum(row.reason.startswith(SEVERAL_LABELS) for row in reader.set_aside)
    if aside and is_multi_label is False:
        reader.notes.append(f"{aside:,} rows have several labels and are set aside (--single_label)")
    if labels.hierarchy:
        reader.notes.append(labels.hierarchy.note)
    notes = [*reader.notes, *([f"not read: {', '.join(unused)}"] if unused else [])]
    return Splits(examples, labels.names, notes, reader.set_aside, labels.is_multi_label, labels.hierarchy)


def _note_on_label_sets(train: Sequence[Example], labels: Labels, hint: str) -> str:
    several, none = sum(len(example.classes) > 1 for example in train), sum(not example.classes for example in train)
    separated = f", separated by {labels.cells.separator!r}" if labels.cells.separator else ""
    count = f"{several:,} of the {len(train):,} train rows have more than one of the {len(labels.names)} labels"
    return f"several labels per text: {count}{separated}; {none:,} have none{hint}"


def _columns_of_zeros(rows: Sequence[Row]) -> str:
    """The labels with a column each that no row has."""
    columns = {name for row in rows for name in row.columns}
    return listed(sorted(columns - {name for row in rows for name in row.labels or ()}), 10)


def _labelled(rows: Sequence[PlacedRow], labels: Labels, reader: Reader) -> list[Example]:
    """Examples of the rows whose labels are known; the others are set aside."""
    examples = []
    for row, file, unit in rows:
        label = labels.of(row)
        if label is None:
            reader.put_aside(file, unit, BadRow(row.number, labels.why_not(row), row.text))
        else:
            examples.append(Example.of(row.text, label))
    return examples


def checked(splits: Splits, seed: int, *, needs_test: bool = True, hold_out: HoldOut | None = None) -> Dataset:
    """Drop leaks and repeats, hold out what is missing, and count everything.

    ``hold_out`` splits train texts into the rest and those for "dev" or "test"; None: a stratified tenth.

    Raises:
        UserError: train has fewer than two classes, or no text is left for a split.
    """
    hold_out = hold_out or (lambda _, train, seed: stratified_split(train, seed))
    examples = dict(splits.examples)
    rows_read = len(examples["train"])
    train, leaks = without_leaks(examples["train"], examples.get("test", []))
    train, dev_leaks = without_leaks(train, examples.get("dev", []))
    train, duplicates, conflicts = without_repeats(train)
    if "test" not in examples:
        train, examples["test"] = hold_out("test", train, TEST_SEED)
    if "dev" not in examples:
        train, examples["dev"] = hold_out("dev", train, seed)
    dev, dev_in_test = without_leaks(examples["dev"], examples["test"])
    test = examples["test"]
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
        "set_aside": len(splits.set_aside),
    }
    check_classes(train, splits.labels)
    for split, held_out in (("dev", dev), ("test", test)):
        if not held_out and (needs_test or split != "test"):
            raise UserError(f"no text is left for {split}", None, f"add texts, or --{split}_file FILE")
    return Dataset(
        tuple(train),
        tuple(dev),
        tuple(test),
        splits.labels,
        counts,
        tuple(splits.notes),
        tuple(splits.set_aside),
        is_multi_label=splits.is_multi_label,
        hierarchy=splits.hierarchy,
    )


def check_classes(train: list[Example], labels: tuple[str, ...]) -> None:
    """Check that train has two classes.

    Raises:
        UserError: it has fewer.
    """
    if len({example.label for example in train}) < 2:
        only = ", ".join(labels[label] for label in sorted({c for example in train for c in example.classes})) or "none"
        raise UserError(f"train has fewer than two classes ({only})", None, "add texts of at least one more class")
