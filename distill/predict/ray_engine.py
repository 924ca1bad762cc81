"""``--engine ray``: Parquet in, Parquet out, one predictor a core of a Ray cluster; the only module that imports ray.

The cluster is the one that ``RAY_ADDRESS`` names, or one on this machine for as long as the job takes. The bundle goes
to the predictors through Ray, so that it need not lie on every machine.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from distill.config import PredictSettings, Settings
from distill.errors import UserError, require_package
from distill.predict.checkpoint import Counts
from distill.predict.parquet_rows import text_column, texts_of, with_answers
from distill.predict.plan import check_named, find_files
from distill.predict.rows import NO_TEXT, PREDICTED, ROWS, Wanted, ask
from distill.runtime import Runtime
from distill.storage.atomic import write_folder

PREDICTOR, READER = 0.75, 0.25  # cores that Ray books: beside a predictor on every core files are read and written
BAD_ROW = "distill: a row is bad"


class Predictor:
    """A student in one of Ray's workers."""

    def __init__(self, bundle: Any, column: str, wanted: Wanted, strict: bool) -> None:
        import ray

        with tempfile.TemporaryDirectory() as folder:  # the runtime keeps the files mapped
            for name, content in ray.get(bundle).items():
                Path(folder, name).write_bytes(content)
            self._runtime = Runtime(folder)
        self._column, self._wanted, self._strict = column, wanted, strict

    def __call__(self, table: Any) -> Any:
        """A table with the answers.

        Raises:
            ValueError: a row has no text, and --strict is given; what Ray makes of it says so.
        """
        texts = texts_of(table, self._column)
        if self._strict and not all(texts):
            raise ValueError(BAD_ROW)
        return with_answers(table, texts, ask(self._runtime, texts), self._wanted)


def label(bundle: Path, settings: Settings) -> tuple[Counts, list[Path]]:
    """Label Parquet files into a folder of Parquet files, in the order of the inputs.

    Returns:
        How many rows there are and how many have no text, and the output where it lies on a disk.

    Raises:
        UserError: there is no ray, an input is no Parquet, the output is there already, or a row is bad and --strict.
    """
    require_package("ray", "--engine ray", "pip install -r requirements-ray.txt")
    predict = settings.predict
    check_named(predict)
    sources, output = [source for given in predict.input for source in _sources(given)], predict.output
    wanted = Wanted(Runtime(bundle).labels, predict.probabilities, settings.data.text_column)
    target = contextlib.nullcontext(output) if _is_address(output) else _new_folder(Path(output))
    with target as folder, _cluster(settings.run.threads), _strictly():
        _write(sources, folder, bundle, wanted, predict)
    return _count(output), [] if _is_address(output) else [Path(output)]


def _write(sources: list[str], output: str, bundle: Path, wanted: Wanted, settings: PredictSettings) -> None:
    import ray

    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.use_datasource_v2 = False  # the new one books a whole core, and its threads fail where aiohttp is missing
    context.enable_progress_bars = sys.stderr.isatty()
    cores = int(ray.cluster_resources()["CPU"])
    rows = ray.data.read_parquet(sources, partitioning=None, num_cpus=READER)
    column = text_column(rows.schema().base_schema, wanted, sources[0])
    files = ray.put({path.name: path.read_bytes() for path in bundle.iterdir() if path.is_file()})
    labelled = rows.map_batches(
        Predictor,
        fn_constructor_args=(files, column, wanted, settings.strict),
        batch_size=ROWS,
        batch_format="pyarrow",
        compute=ray.data.ActorPoolStrategy(size=min(settings.workers or cores, cores)),
        num_cpus=PREDICTOR,
    )
    labelled.write_parquet(output, ray_remote_args={"num_cpus": READER})


def _is_address(path: str) -> bool:
    return "://" in path


def _sources(given: str) -> list[str]:
    if _is_address(given):
        return [given]
    _, files = find_files(given)
    for file in files:
        if file.suffix.lower() != ".parquet":
            raise UserError("--engine ray reads Parquet alone", file, "--engine local, or convert it")
    return [str(file.resolve()) for file in files]


@contextlib.contextmanager
def _new_folder(output: Path) -> Iterator[str]:
    """The output's folder, there whole or not at all; nothing of somebody else's is replaced."""
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise UserError("--engine ray writes a new folder, this is there already", output, "--output another folder")
    with write_folder(output.resolve()) as aside:
        yield str(aside)


@contextlib.contextmanager
def _cluster(cores: int) -> Iterator[None]:
    """A connection to the cluster, or the one that there is; nothing is sent to Ray's makers."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    if ray.is_initialized():
        yield
        return
    address = os.environ.get("RAY_ADDRESS", "local")
    own = {"num_cpus": cores or None, "include_dashboard": False}
    ray.init(address, logging_level="WARNING", log_to_driver=False, **(own if address == "local" else {}))
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _strictly() -> Iterator[None]:
    """What a predictor says of a bad row, without Ray's words around it."""
    try:
        yield
    except Exception as error:
        if BAD_ROW in str(error):
            raise UserError(NO_TEXT, "a row of --input", "repair or delete that row, or leave out --strict") from error
        raise


def _count(output: str) -> Counts:
    from pyarrow import dataset

    written = dataset.dataset(output, format="parquet")
    if PREDICTED not in written.schema.names:
        return Counts()  # of no row
    return Counts(written.count_rows(), written.count_rows(filter=dataset.field(PREDICTED).is_null()))
