"""Several tasks: questions about a text with labels of their own, such as its topic and its sentiment.

The tasks are columns of the same files, or folders. A text may have a label for some of the tasks; one that is in dev
or test for one task is in train for none.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

from distill.config import DataSettings
from distill.data import Dataset, Splits, check_classes, checked, files_of, read_splits
from distill.data.examples import UNLABELLED, Example, Label
from distill.data.formats import open_file
from distill.data.formats.labelling import BadRow
from distill.data.formats.records import NEITHER, Columns, Row
from distill.data.labels import check_levels
from distill.data.splits import HELD_OUT_SHARE, stratified_split, without_leaks
from distill.errors import UserError
from distill.progress import log
from distill.runtime.tasks import Task, flat_labels

MAX_NAME = 200  # bytes of a task's name, which becomes that of a folder
FIRST_ROWS = 200  # that show whether columns hold 0 and 1
MAX_OTHER_SHARE = 0.1  # share of these rows with other cells, if columns are labels; more: they are tasks
MIN_SHARED = 0.5  # of a class's usual share in dev or test, if texts that other tasks have there are enough


def find_tasks(settings: DataSettings) -> dict[str, DataSettings]:
    """The settings of every task by its name; empty: the data is one task.

    Several columns of ``--label_column`` are a task each, unless their cells are 0 and 1: then they are labels. Several
    folders are a task each; with one column for each of them, the tasks have the columns' names. With --single_label,
    columns are tasks also if their cells are 0 and 1.

    Raises:
        UserError: a folder or a train file is missing, or two tasks have one name.
    """
    folders, columns = settings.folders, [name.strip() for name in settings.label_column.split(",") if name.strip()]
    if len(folders) > 1:
        return _of_folders(settings, folders, columns)
    if len(columns) < 2 or not (settings.single_label or _are_tasks(settings)):
        return {}
    return _by_name(columns, [dataclasses.replace(settings, label_column=column) for column in columns])


def _of_folders(settings: DataSettings, folders: Sequence[Path], columns: list[str]) -> dict[str, DataSettings]:
    """A task per folder."""
    if files := [name for name in ("train_file", "dev_file", "test_file") if getattr(settings, name)]:
        what = "one file cannot replace those of several folders"
        raise UserError(what, f"--{files[0]}", "leave it out, or put the files into the folders")
    if len(columns) > 1 and len(columns) != len(folders):
        what = f"{len(columns)} columns for {len(folders)} folders"
        raise UserError(what, f"--label_column {settings.label_column}", "name one column for all, or one for each")
    of_folder = columns if len(columns) > 1 else columns * len(folders) or [""] * len(folders)
    names = columns if len(columns) > 1 else [folder.resolve().name for folder in folders]
    values = [
        dataclasses.replace(settings, data=str(folder), label_column=column)
        for folder, column in zip(folders, of_folder, strict=True)
    ]
    return _by_name(names, values)


def _by_name(names: Sequence[str], settings: Sequence[DataSettings]) -> dict[str, DataSettings]:
    if len({name.casefold() for name in names}) < len(names):  # not all file systems tell A from a
        what = f"two tasks have one name: {', '.join(names)}"
        raise UserError(what, "--label_column or --data", "name every task once; a folder's name is that of its task")
    check_names(names, "--label_column")
    return dict(zip(names, settings, strict=True))


def check_names(names: Iterable[str], where: str) -> None:
    """Check the names of tasks, which folders are named after.

    Raises:
        UserError: one is empty, or has a character with another meaning in paths, tables or on the command line.
    """
    for name in names:
        is_too_long = len(name.encode()) > MAX_NAME
        if is_too_long or not name.strip(" .") or re.search(r"[/\\=|\x00-\x1f\x7f-\x9f]", name):
            hint = rf"rename it: at most {MAX_NAME} bytes, without / \ = and |, and not only dots"
            raise UserError(f"a task cannot be called {name!r:.60}", where, hint)


def _are_tasks(settings: DataSettings) -> bool:
    """Whether the cells of the named columns of train are something else than 0 and 1; empty ones do not count."""
    path = files_of(settings)[0].get("train", [Path()])[0]
    if not path.is_file():
        return False
    with open_file(path, Columns(settings.text_column, settings.label_column)) as file:
        are_others = (isinstance(row, BadRow) for row in file.rows() if _has_labels(row))
        first = list(islice(are_others, FIRST_ROWS))
    return sum(first) > MAX_OTHER_SHARE * len(first)


def _has_labels(row: Row | BadRow) -> bool:
    """Whether a row, read as one with a label per column, has a cell that says what the columns are."""
    return isinstance(row, Row) or row.why.endswith(NEITHER)


def load_tasks(tasks: Mapping[str, DataSettings], seed: int, *, is_strict: bool = False) -> dict[str, Dataset]:
    """Read, check and split the data of every task, like :func:`distill.data.load`; see :func:`split_tasks`.

    Raises:
        UserError: as for :func:`distill.data.load`; the message names the task.
    """
    files = {name: files_of(settings) for name, settings in tasks.items()}
    is_shared = len({settings.data for settings in tasks.values()}) == 1
    splits = {}
    for name, settings in tasks.items():
        try:
            task = name if is_shared else ""
            splits[name] = read_splits(settings, *files[name], is_strict=is_strict, task=task)
        except UserError as error:
            raise _of_task(error, name) from error
    check_levels(next(iter(tasks.values())).hierarchy, [one.hierarchy for one in splits.values()])
    return split_tasks(splits, seed)


def split_tasks(splits: Mapping[str, Splits], seed: int, *, needs_test: bool = True) -> dict[str, Dataset]:
    """Check and split the data of every task.

    A text that one task has in dev or test is dropped from the train texts of all, and where texts are held out, those
    that an earlier task has held out come first.

    Raises:
        UserError: a task has fewer than two classes in train, or no text is left for a split; the message names it.
    """
    held_out: dict[str, set[int]] = {
        split: {example.id for one in splits.values() for example in one.examples.get(split, ())}
        for split in ("test", "dev")
    }

    def hold_out(split: str, train: list[Example], seed: int) -> tuple[list[Example], list[Example]]:
        """Hold out what is held out already, and a tenth of the classes that have too few texts there."""
        known, rest = _divided(train, held_out[split])
        rest, others = _divided(rest, held_out["dev" if split == "test" else "test"])[::-1]
        short = _short_classes(known, train)
        candidates = [one for one in rest if not known or one.classes & short]
        _, more = stratified_split(candidates, seed)
        held_out[split].update(example.id for example in (*known, *more))
        _, rest = _divided(rest, held_out[split])
        return [*rest, *others], [*known, *more]

    datasets = {}
    for name, one in splits.items():
        try:
            datasets[name] = checked(one, seed, needs_test=needs_test, hold_out=hold_out)
        except UserError as error:
            raise _of_task(error, name) from error
    return {name: _without_leaks(name, dataset, datasets.values()) for name, dataset in datasets.items()}


def _of_task(error: UserError, name: str) -> UserError:
    return UserError(f"task {name}: {error.what}", error.where, error.hint)


def _divided(examples: Sequence[Example], ids: Collection[int]) -> tuple[list[Example], list[Example]]:
    """The examples with these ids, and the others."""
    return [one for one in examples if one.id in ids], [one for one in examples if one.id not in ids]


def _short_classes(held_out: Sequence[Example], train: Sequence[Example]) -> set[int]:
    """The classes of which less than ``MIN_SHARED`` of the usual share is held out."""
    held, of_train = (Counter(label for one in examples for label in one.classes) for examples in (held_out, train))
    return {label for label, count in of_train.items() if held[label] < MIN_SHARED * HELD_OUT_SHARE * count}


def _without_leaks(name: str, dataset: Dataset, datasets: Collection[Dataset]) -> Dataset:
    """A task without the train texts that are in dev or test of another one, and the dev texts that are in its test."""
    test = [example for other in datasets for example in other.test]
    dev, in_test = without_leaks(dataset.dev, test)
    train, leaks = without_leaks(dataset.train, test)
    train, dev_leaks = without_leaks(train, [example for other in datasets for example in other.dev])
    dropped = {"leaks": leaks, "leaks_into_dev": dev_leaks, "dev_leaks": in_test}
    if any(dropped.values()):
        what = "%s: dropped %d train and %d dev texts that another task has in dev or test"
        log.info(what, name, leaks + dev_leaks, in_test)
    if not train or not dev:
        what = f"no text is left for {'dev' if train else 'train'}: other tasks have them all in dev or test"
        raise UserError(f"task {name}: {what}", None, "put the same texts into dev and test of all tasks")
    try:
        check_classes(train, dataset.labels)
    except UserError as error:
        raise _of_task(error, name) from error
    counts = {**dataset.counts, "train": len(train), "dev": len(dev)}
    counts |= {kind: counts[kind] + count for kind, count in dropped.items()}
    return dataclasses.replace(dataset, train=tuple(train), dev=tuple(dev), counts=counts)


def joined(datasets: Mapping[str, Dataset]) -> Dataset:
    """The texts of all tasks as one data set, each once and without a label; the labels are those of every task."""
    splits: dict[str, dict[int, Example]] = defaultdict(dict)
    for dataset in datasets.values():
        for split in ("train", "dev", "test"):
            for example in getattr(dataset, split):
                splits[split].setdefault(example.id, dataclasses.replace(example, label=UNLABELLED))
    train, dev, test = (tuple(splits[split].values()) for split in ("train", "dev", "test"))
    labels = flat_labels([Task(name, dataset.labels) for name, dataset in datasets.items()])
    return Dataset(train, dev, test, labels, {"train": len(train), "dev": len(dev), "test": len(test)})


def labelled(examples: Sequence[Example], dataset: Dataset) -> list[Example]:
    """The examples with the labels that they have in a task's train or dev, ``UNLABELLED`` if they have none."""
    labels: dict[int, Label] = {example.id: example.label for example in (*dataset.train, *dataset.dev)}
    return [dataclasses.replace(example, label=labels.get(example.id, UNLABELLED)) for example in examples]
