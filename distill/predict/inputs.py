"""An input opened: a file or standard input, of whichever format."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

from distill.predict.line_formats import KINDS
from distill.predict.lines import Lines
from distill.predict.parquet_rows import ParquetRows
from distill.predict.plan import FileJob, stamp
from distill.predict.rows import Format, Wanted
from distill.predict.text_rows import TextRows


@contextlib.contextmanager
def opened(job: FileJob, wanted: Wanted) -> Iterator[tuple[Format, dict[str, Any]]]:
    """An input, and what tells it from another: path, size and time; of standard input its beginning.

    Raises:
        UserError: it has no column of texts, or is of another format or encoding than its name says.
    """
    if job.source is None:
        lines, beginning = Lines.of_stream(sys.stdin.buffer, job.name)
        yield TextRows(lines, KINDS[job.suffix](lines, wanted), 0), {"beginning": beginning}
        return
    same: dict[str, Any] = {"path": str(job.source.resolve()), **stamp(job.source)}
    if job.suffix == ".parquet":
        with contextlib.closing(ParquetRows(job.source, wanted)) as rows:
            yield rows, same
        return
    with job.source.open("rb") as file:
        lines = Lines.of_file(file, job.name)
        yield TextRows(lines, KINDS[job.suffix](lines, wanted), same["size"]), same
