"""``--engine ray``: Parquet in, Parquet out, one predictor per core of a Ray cluster; the only module that imports ray.

The cluster is the one at ``RAY_ADDRESS``, or one that runs on this machine while the job does. Ray sends the bundle to
the predictors, so it need not exist on every machine.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import operator
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distill.config import PredictSettings, Settings
from distill.data.formats.labelling import (
    ANSWERED_BY,
    CHUNK_ROWS,
    PREDICTED,
    SET_PROBABILITY,
    STUDENT_OR_TEACHER,
    OutputSpec,
)
from distill.data.formats.parquet import has_text, text_columns, texts_of, with_labels
from distill.data.formats.records import NO_TEXT, Selection
from distill.errors import UserError, install_hint, require_package
from distill.predict.checkpoint import DONE, JOINED, PRIVATE, Counts
from distill.predict.local import output_spec
from distill.predict.plan import STREAM, check_named, find_files
from distill.predict.sources import InputState
from distill.predict.teacher import LazyTeacher, TaskTeachers, find_teacher
from distill.runtime import Runtime
from distill.runtime.bundle import BUNDLE_CARD
from distill.runtime.tasks import ByTask, names_of_tasks
from distill.runtime.unsure import Classifier
from distill.storage.atomic import PARTS_SUFFIX, put_in_place, remove, write_folder, write_json
from distill.storage.fingerprints import fingerprint_bytes, fingerprint_texts
from distill.storage.locks import exclusive_lock

PREDICTOR, READER = 0.75, 0.25  # shares of a core: next to a predictor on every core, files are read and written
DONE_SUFFIX = ".distill-done"
BAD_ROW = "distill: a row is bad"


@dataclass(frozen=True)
class Models:
    """The files of the bundle and, with --cascade, of the teachers; ``below`` is the threshold of the cascade.

    ``teachers`` are by the name of the task, which is empty if there is only one.
    """

    bundle: dict[str, bytes]
    teachers: dict[str, dict[str, bytes]]
    below: ByTask

    @classmethod
    def of(cls, bundle: Path, settings: Settings) -> Self:
        """Read the files.

        Raises:
            UserError: the bundle is damaged, or the teacher of --cascade cannot be used.
        """
        files = _contents(bundle)
        if not settings.unsure.cascade:
            return cls(files, {}, 0.0)
        student = _runtime(files)
        below = settings.unsure.cascade_limit(names_of_tasks(student))
        teacher = find_teacher(settings, student.labels, student.thresholds, student.tasks)
        by_task = teacher.by_task if isinstance(teacher, TaskTeachers) else {"": teacher} if teacher else {}
        return cls(files, {name: _contents(own.folder) for name, own in by_task.items()}, below)

    def classifier(self, *, loads_teachers: bool = True) -> Classifier:
        """The student, with its teachers if there are any; some may only describe themselves."""
        student = _runtime(self.bundle)
        if not self.teachers:
            return student
        with contextlib.ExitStack() as folders:
            by_task = {name: LazyTeacher(folders.enter_context(_folder_of(own))) for name, own in self.teachers.items()}
            teachers = by_task.get("") or TaskTeachers(by_task, Path())
            if loads_teachers:
                teachers.load()
            return teachers.cascade(student, self.below)


class Predictor:
    """A student in a Ray worker, with --cascade and its teacher."""

    def __init__(self, models: Any, selection: Selection, spec: OutputSpec, strict: bool) -> None:
        import ray

        self._classifier = ray.get(models).classifier()
        self._selection, self._spec, self._strict = selection, spec, strict

    def __call__(self, table: Any) -> Any:
        """A table with its labels.

        Raises:
            ValueError: a row has no text and --strict is given. Ray's own error will contain this message.
        """
        texts = texts_of(table, self._selection)
        if self._strict and not has_text(texts).all():
            raise ValueError(BAD_ROW)
        return with_labels(table, texts, self._spec.predictions(self._classifier, texts), self._spec)


def label(bundle: Path, settings: Settings) -> tuple[Counts, list[Path]]:
    """Label Parquet files into a folder of Parquet files, in the order of the inputs.

    Returns:
        The numbers of all rows and of those without text, and the output unless it is a remote address.

    Raises:
        UserError: ray is not installed, an input is not Parquet or changed meanwhile, the output exists, or a row is
            bad and --strict is given.
    """
    require_package("ray", "--engine ray", install_hint("ray"))
    predict = settings.predict
    check_named(predict)
    if predict.output == STREAM:
        raise UserError("--engine ray writes a folder of Parquet files", "--output -", "--output FOLDER")
    sources, output = [source for name in predict.input for source in _sources(name)], predict.output
    models = Models.of(bundle, settings)
    spec = output_spec(models.classifier(loads_teachers=False), settings)
    states = [InputState.of(Path(source)) for source in sources if not _is_address(source)]
    record = {
        "inputs": [state.identity for state in states] or sources,
        "bundle": fingerprint_texts([models.bundle[BUNDLE_CARD].decode()]),
        "settings": {**spec.record, "strict": predict.strict},
    }
    if models.teachers:
        teachers = models.teachers.items()
        fingerprints = {
            f"{task}/{name}" if task else name: fingerprint_bytes(content)
            for task, files in teachers
            for name, content in files.items()
        }
        record["cascade"] = {"below": models.below, "teacher": fingerprints}
    target = contextlib.nullcontext(output) if _is_address(output) else _new_folder(Path(output), record)
    with target as folder:
        if folder:
            with _cluster(settings.run.threads), _known_errors():
                _write(sources, folder, models, spec, predict)
            for state in states:
                state.check()
    return _count(output, spec), [] if _is_address(output) else [Path(output)]


def _runtime(files: dict[str, bytes]) -> Runtime:
    """The student of a bundle's files."""
    with _folder_of(files) as folder:
        return Runtime(folder)


def _contents(folder: Path) -> dict[str, bytes]:
    """The files of a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@contextlib.contextmanager
def _folder_of(files: dict[str, bytes]) -> Iterator[Path]:
    """A temporary folder with files, for models that read them once."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        yield Path(folder)


def _write(sources: list[str], output: str, models: Models, spec: OutputSpec, settings: PredictSettings) -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.use_datasource_v2 = False  # V2 reserves a whole core, and its threads fail without aiohttp
    context.enable_progress_bars = sys.stderr.isatty()
    cores = int(ray.cluster_resources()["CPU"])
    rows = ray.data.read_parquet(sources, partitioning=None, num_cpus=READER)
    selection = text_columns(rows.schema().base_schema, spec.input_columns, spec, sources[0])
    labelled = rows.map_batches(
        Predictor,
        fn_constructor_args=(ray.put(models), selection, spec, settings.strict),
        batch_size=CHUNK_ROWS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(settings.workers or cores, cores)),
        num_cpus=PREDICTOR,
    )
    labelled.write_parquet(output, ray_remote_args={"num_cpus": READER})


def _is_address(path: str) -> bool:
    return "://" in path


def _sources(name: str) -> list[str]:
    if _is_address(name):
        return [name]
    _, files = find_files(name)
    for file in files:
        if file.suffix.lower() != ".parquet":
            raise UserError("--engine ray reads only Parquet", file, "--engine local, or convert it")
    return [str(file.resolve()) for file in files]


@contextlib.contextmanager
def _new_folder(output: Path, record: dict[str, Any]) -> Iterator[str | None]:
    """A new folder for the output, which takes its name when the block ends; existing files are never replaced.

    Until then it has a random name in the private folder ``.OUTPUT.distill-parts``: a worker that outlives a killed
    job does not write into the folder of the next one. ``.OUTPUT.distill-done`` contains ``record`` while the output
    takes its name. If a kill left it there, the output is complete, and None is yielded.
    """
    output = output.resolve()
    parts, done = (output.with_name(f".{output.name}{suffix}") for suffix in (PARTS_SUFFIX, DONE_SUFFIX))
    with exclusive_lock(output.with_name(f".{output.name}.distill-ray")):
        has_output = output.exists() and (not output.is_dir() or any(output.iterdir()))
        if has_output and not _is_written(done, record):
            raise UserError("--engine ray writes a new folder, and this one exists", output, "--output another folder")
        remove(parts)
        if has_output:
            yield None
        else:
            parts.mkdir(PRIVATE)
            try:
                with write_folder(parts / JOINED) as temporary:
                    yield str(temporary)
                if output.exists():  # a folder without files
                    (parts / JOINED).chmod(stat.S_IMODE(output.stat().st_mode))
                put_in_place(write_json(parts / DONE, record), done)  # what a kill leaves is in the private folder
                (parts / JOINED).replace(output)
            finally:
                remove(parts)
    done.unlink(missing_ok=True)  # the last step: what a kill leaves before it is told from a finished job


def _is_written(path: Path, record: dict[str, Any]) -> bool:
    """Whether a file contains a record."""
    try:
        return bool(json.loads(path.read_text("utf-8")) == record)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _cluster(cores: int) -> Iterator[None]:
    """A connection to the cluster; one that exists is used. Ray's usage reports are switched off."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    local = {"num_cpus": cores or None, "include_dashboard": False}
    ray.init(address, logging_level="WARNING", log_to_driver=False, **(local if address == "local" else {}))
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _known_errors() -> Iterator[None]:
    """Replace Ray's errors around a bad row and a full disk by one line."""
    try:
        yield
    except Exception as error:
        if BAD_ROW in str(error):
            raise UserError(NO_TEXT, "a row of --input", "repair or delete that row, or leave out --strict") from error
        if os.strerror(errno.ENOSPC) in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise


def _count(output: str, spec: OutputSpec) -> Counts:
    from pyarrow import dataset

    written = dataset.dataset(output, format="parquet")
    first, *_ = spec.columns
    if first not in written.schema.names:
        return Counts()  # there were no rows
    by_teacher = [dataset.field(task.name(ANSWERED_BY)) == STUDENT_OR_TEACHER[True] for task in spec.by_task]
    rejected = [_is_rejected(task) for task in spec.by_task if task.reject_below]
    return Counts(
        written.count_rows(),
        written.count_rows(filter=dataset.field(first).is_null()),
        written.count_rows(filter=functools.reduce(operator.or_, rejected)) if rejected else 0,
        written.count_rows(filter=functools.reduce(operator.or_, by_teacher)) if spec.has_cascade else 0,
    )


def _is_rejected(task: OutputSpec) -> Any:
    """Which rows are rejected in a task, as an expression; a row without text is not."""
    import pyarrow as pa
    from pyarrow import dataset

    if task.has_set_probability:
        return dataset.field(task.name(SET_PROBABILITY)) < pa.scalar(task.own_reject_below, pa.float32())
    return dataset.field(task.name(PREDICTED)) == task.reject_label
