"""A Python function as a teacher: a call of an API, a rule, another library. It is called in batches, and cached."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import re
import secrets
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill.data.formats.records import RowError
from distill.errors import UserError, listed
from distill.progress import progress_bar
from distill.storage.fingerprints import fingerprint_bytes, fingerprint_file
from distill.teachers.base import LabellingTask, Teacher, TeacherValue
from distill.teachers.returned import Attributes, Call, Converter
from distill.training.teacher_cache import TeacherFunction, keep_outputs

SHARD = 1_024  # texts per file of the cache: a killed run loses no more answers
NAMED = re.compile(r"(?P<place>.+\.py|[^\W\d]\w*(?:\.[^\W\d]\w*)*):(?P<function>[^\W\d]\w*)")
FORMS = "probabilities or logits (texts, classes), or a list of labels, or of dictionaries by label"
SESSION = secrets.token_hex(8)  # of this process
_unnamed: list[Callable[..., Any]] = []  # functions that nothing but this process knows; their positions are their ids


def recognise(value: TeacherValue, label_names: Mapping[str, str]) -> FunctionTeacher | None:
    """The function that MODULE:FUNCTION or FILE.py:FUNCTION names, or a callable; None for anything else.

    Raises:
        UserError: the file, the module or the function does not exist, or cannot be imported.
    """
    if callable(value):
        return FunctionTeacher(value, *_identity(value), label_names)
    match = NAMED.fullmatch(str(value))
    if Path(value).suffix == ".py" and Path(value).is_file():
        what = "the name of the function in this file is missing"
        raise UserError(what, f"--teacher {value}", f"--teacher {value}:FUNCTION")
    if match is None or Path(value).exists():
        return None
    module = _imported(match["place"], f"--teacher {value}")
    function = getattr(module, match["function"], None)
    if not callable(function):
        names = [name for name, item in vars(module).items() if callable(item) and not name.startswith("_")]
        what = f"there is no function {match['function']} in {match['place']}"
        raise UserError(what, f"--teacher {value}", "name one of its functions", f"there are: {listed(names, 10)}")
    return FunctionTeacher(function, str(value), _source(module), label_names)


def _imported(place: str, where: str) -> Any:
    """The module that a file or a dotted name holds; modules in the present folder are found too."""
    is_file = place.endswith(".py")
    if is_file and not Path(place).is_file():
        raise UserError("no such file", where, "FILE.py:FUNCTION with the path of a file")
    try:
        if is_file:
            return _module_of(Path(place))
        if str(Path.cwd()) not in sys.path:
            sys.path.append(str(Path.cwd()))
        return importlib.import_module(place)
    except (Exception, SystemExit) as error:  # whatever the module raises
        reason = f"{type(error).__name__}: {error}"
        raise UserError(
            f"{place} cannot be imported: {reason}", where, "fix it; --debug shows the traceback"
        ) from error


def _module_of(file: Path) -> Any:
    """A file as a module, under a name that hides no other module."""
    name = f"distill_teacher_{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None  # noqa: S101 (it is a file of Python)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)  # dataclasses look it up there
    try:
        with _first_in_path(str(file.resolve().parent)):
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextlib.contextmanager
def _first_in_path(folder: str) -> Iterator[None]:
    """Modules of a folder are imported first; afterwards last, for imports within a function."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _source(module: Any) -> str:
    """Fingerprint of a module's file; "" if it has none."""
    path = Path(str(getattr(module, "__file__", None)))
    return fingerprint_file(path) if path.is_file() else ""


def _identity(function: Callable[..., Any]) -> tuple[str, str]:
    """The name of a callable among teachers, and the fingerprint of the code and state that decide its answers.

    A function at the top level of a module is known by its module's file. Of a closure, a method, an object or a
    partial function, the state cannot be compared: it is known by its ``version``, or in this process only.
    """
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    name = f"{getattr(inner, '__module__', '')}:{getattr(inner, '__qualname__', type(inner).__qualname__)}"
    module = sys.modules.get(name.partition(":")[0])
    if getattr(module, name.partition(":")[2], None) is function and (source := _source(module)):
        return name, source
    if version := Attributes.of(function, name).version:
        return f"{name} {version}", _code(inner)
    number = _number(function)
    return f"{name} #{number}", f"{SESSION} #{number}"


def _number(function: Callable[..., Any]) -> int:
    """The position of a callable among those that only this process knows; two accesses to a method are one."""
    for number, known in enumerate(_unnamed):
        if known is function or (inspect.ismethod(known) and known == function):
            return number
    _unnamed.append(function)
    return len(_unnamed) - 1


def _code(function: Callable[..., Any]) -> str:
    """Fingerprint of the source of a function, or of a callable object's class; "" if it has none."""
    try:
        is_function = inspect.isroutine(function)
        return fingerprint_bytes(inspect.getsource(function if is_function else type(function)).encode())
    except (OSError, TypeError):
        return ""


class FunctionTeacher(Teacher):
    """A function of a list of texts, which returns an answer to each; see :class:`Attributes` for its attributes."""

    shard_size = SHARD

    def __init__(
        self, function: Callable[[list[str]], Any], name: str, fingerprint: str, label_names: Mapping[str, str]
    ) -> None:
        super().__init__(name, label_names)
        self.function, self._fingerprint = function, fingerprint
        self.attributes = Attributes.of(function, name)

    def labels(self) -> tuple[str, ...]:
        """See Teacher: the function's attribute ``labels``."""
        if self.attributes.labels is None:
            what = "the data has no labels, and the function does not say which classes there are"
            raise UserError(what, self.source, "give the function an attribute: FUNCTION.labels = ['体育', '财经']")
        return self.classes(self.attributes.labels)

    def fingerprints(self) -> dict[str, str]:
        """See Teacher: its name, the fingerprint of its source, and its attributes."""
        return {"function": self.name, "source": self._fingerprint, **self.attributes.given()}

    def provenance(self, task: LabellingTask) -> dict[str, str]:
        """See Teacher; what an answer means depends on how many labels a text may have."""
        return {**super().provenance(task), **({"labels per text": "any number"} if task.is_multi_label else {})}

    def open(self, task: LabellingTask) -> TeacherFunction:
        """See Teacher; if the function fails, the answers up to there are handed on with the error."""
        if self._fingerprint.startswith(SESSION):
            what = "it is not at the top level of a module's file, and has no version"
            self.say(f'{self.name}: {what}, so its answers are not kept for the next run (FUNCTION.version = "1")')
        converter, size = Converter(self, self.attributes, task), self.attributes.batch_size

        def logits(texts: Sequence[str], progress_label: str = "") -> Tensor:
            parts: list[NDArray[np.float64]] = [np.empty((0, len(task.labels)))]
            with progress_bar(progress_label, len(texts), "texts") as bar:
                for start in range(0, len(texts), size):
                    batch = Call(list(texts[start : start + size]), start, len(texts))
                    try:
                        parts.append(self._answer(batch, converter))
                    except BaseException as error:  # Ctrl-C too: what was paid for is kept
                        keep_outputs(error, _tensor(parts))
                        raise
                    bar.update(len(batch.texts))
            return _tensor(parts)

        return logits

    def _answer(self, batch: Call, converter: Converter) -> NDArray[np.float64]:
        """Logits of a batch of texts, shape (texts, classes).

        Raises:
            UserError: the function fails, or returns something else than answers.
        """
        kept = "earlier answers are kept: fix the cause, then run the same command again"
        try:
            answers = self.function(list(batch.texts))
        except (Exception, SystemExit) as error:  # whatever the function raises
            what = f"the function failed on {batch}: {type(error).__name__}: {error}"
            raise UserError(what, self.source, f"{kept}; --debug shows the traceback") from error
        try:
            return converter.logits(answers, batch)
        except (TypeError, ValueError, RowError) as error:
            what = f"the function's answers to {batch} cannot be used: {error}"
            raise UserError(what, self.source, f"return {FORMS}; {kept}") from error


def _tensor(parts: list[NDArray[np.float64]]) -> Tensor:
    return torch.from_numpy(np.concatenate(parts).astype(np.float32))
