"""A fitted classifier's files: the bundle of its student, in memory, and a card with its labels and parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from distill.data.arrays import class_names
from distill.errors import InputError, UserError, join_problems
from distill.runtime import Runtime
from distill.runtime.bundle import BUNDLE_ARRAYS, BUNDLE_CARD, MAX_CARD_BYTES, json_object, read_content
from distill.storage.atomic import write_file, write_folder
from distill.storage.run_folder import MODEL_CARD

ESTIMATOR_CARD = "estimator.json"  # the classes with their type, next to a saved bundle
BUNDLE_FILES = (BUNDLE_CARD, BUNDLE_ARRAYS, MODEL_CARD)


class BundleInMemory:
    """The files of a bundle, and its runtime, which is loaded when it is first used. Copies hold the files alone."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = dict(files)
        self._loaded: dict[int, Runtime] = {}  # by the number of threads

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The files of the bundle in a folder."""
        return cls({name: (folder / name).read_bytes() for name in BUNDLE_FILES if (folder / name).is_file()})

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "_loaded": {}}

    def runtime(self, threads: int) -> Runtime:
        """The runtime of the bundle with so many threads; 0: one per core."""
        if threads not in self._loaded:
            with TemporaryDirectory(prefix="distill-") as parent:
                runtime = Runtime(self.write(Path(parent, "bundle")), threads)
            self._loaded = {threads: runtime}
            return runtime
        return self._loaded[threads]

    def write(self, folder: Path, more: Mapping[str, bytes] | None = None) -> Path:
        """Write the files, and ``more``; a folder that holds other files is left alone.

        Raises:
            InputError: the folder holds other files.
        """
        present = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if others := sorted(set(present) - {*BUNDLE_FILES, ESTIMATOR_CARD}):
            what = f"this folder holds something else than a bundle: {join_problems(others)}"
            raise InputError(what, folder, "name a new folder")
        with write_folder(folder) as temporary:
            for name, content in {**self._files, **(more or {})}.items():
                write_file(temporary / name, content)
        return folder


def read_card(folder: Path) -> dict[str, Any]:
    """The file with the labels and parameters; empty for a plain bundle.

    Raises:
        UserError: it is damaged.
    """
    path = folder / ESTIMATOR_CARD
    if not path.is_file():
        return {}
    try:
        card = json_object(read_content(path, MAX_CARD_BYTES))
        if not isinstance(card.get("params", {}), dict) or not isinstance(card.get("dev_score", 0.0), int | float):
            raise ValueError("params is not an object, or dev_score not a number")
        tasks = card.get("tasks", {})
        if not isinstance(tasks, dict) or not all(isinstance(task, dict) for task in tasks.values()):
            raise ValueError("tasks is not an object of objects")
    except (ValueError, RecursionError) as error:
        raise UserError(f"this file cannot be read: {error}", path, "save the classifier again") from error
    return card


def classes_in(card: Mapping[str, Any], names: Sequence[str], folder: Path) -> NDArray[Any]:
    """The classes, with their type, in the order of the bundle's labels.

    Raises:
        UserError: they are not those of the bundle.
    """
    if "classes" not in card:
        return np.array(names)
    try:
        dtype = np.dtype(str(card["dtype"]))
        classes = np.array(card["classes"], dtype) if dtype.kind in "biufUO" else np.array([])
        is_same = classes.ndim == 1 and class_names(classes) == tuple(names)
    except (KeyError, TypeError, ValueError, OverflowError):
        is_same = False
    if not is_same:
        what = "its classes are not the labels of the bundle"
        raise UserError(what, folder / ESTIMATOR_CARD, "copy the whole folder again, or save the classifier again")
    return classes


def is_json(value: Any) -> bool:
    """Whether JSON can hold the value."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
