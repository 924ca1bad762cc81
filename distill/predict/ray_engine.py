"""``--engine ray``: Parquet in, Parquet out, one predictor per core of a Ray cluster; the only module that imports ray.

The cluster is the one at ``RAY_ADDRESS``, or one that runs on this machine while the job does. Ray sends the bundle to
the predictors, so it need not exist on every machine.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.config import PredictSettings, Settings
from distill.data.formats.labelling import CHUNK_ROWS, PREDICTED, OutputSpec, Predictions
from distill.data.formats.parquet import text_columns, texts_of, with_labels
from distill.data.formats.records import NO_TEXT, Selection
from distill.errors import UserError, install_hint, require_package
from distill.predict.checkpoint import JOINED, PRIVATE, Counts
from distill.predict.plan import check_named, find_files
from distill.predict.sources import InputState
from distill.runtime import Runtime
from distill.runtime.bundle import BUNDLE_CARD
from distill.storage.atomic import PARTS_SUFFIX, remove, write_folder, write_json
from distill.storage.fingerprints import fingerprint_texts
from distill.storage.locks import exclusive_lock

PREDICTOR, READER = 0.75, 0.25  # shares of a core: next to a predictor on every core, files are read and written
DONE_SUFFIX = ".distill-done"
BAD_ROW = "distill: a row is bad"


class Predictor:
    """A student in a Ray worker."""

    def __init__(self, bundle: Any, selection: Selection, spec: OutputSpec, strict: bool) -> None:
        import ray

        self._runtime = _runtime(ray.get(bundle))
        self._selection, self._spec, self._strict = selection, spec, strict

    def __call__(self, table: Any) -> Any:
        """A table with its labels.

        Raises:
            ValueError: a row has no text and --strict is given. Ray's own error will contain this message.
        """
        texts = texts_of(table, self._selection)
        if self._strict and not all(texts):
            raise ValueError(BAD_ROW)
        return with_labels(table, texts, Predictions.of(self._runtime.predict_proba(texts)), self._spec)


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
    sources, output = [source for name in predict.input for source in _sources(name)], predict.output
    files = {path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()}
    spec = OutputSpec(_runtime(files).labels, predict.probabilities, settings.data.text_column)
    states = [InputState.of(Path(source)) for source in sources if not _is_address(source)]
    record = {
        "inputs": [state.identity for state in states] or sources,
        "bundle": fingerprint_texts([files[BUNDLE_CARD].decode()]),
        "settings": [spec.text_column, spec.probabilities, predict.strict],
    }
    target = contextlib.nullcontext(output) if _is_address(output) else _new_folder(Path(output), record)
    with target as folder:
        if folder:
            with _cluster(settings.run.threads), _known_errors():
                _write(sources, folder, files, spec, predict)
            for state in states:
                state.check()
    return _count(output), [] if _is_address(output) else [Path(output)]


def _runtime(files: dict[str, bytes]) -> Runtime:
    """The student of a bundle's files."""
    with tempfile.TemporaryDirectory() as folder:  # the runtime reads the files once
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return Runtime(folder)


def _write(
    sources: list[str], output: str, files: dict[str, bytes], spec: OutputSpec, settings: PredictSettings
) -> None:
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
        fn_constructor_args=(ray.put(files), selection, spec, settings.strict),
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
                write_json(done, record)
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


def _count(output: str) -> Counts:
    from pyarrow import dataset

    written = dataset.dataset(output, format="parquet")
    if PREDICTED not in written.schema.names:
        return Counts()  # there were no rows
    return Counts(written.count_rows(), written.count_rows(filter=dataset.field(PREDICTED).is_null()))
