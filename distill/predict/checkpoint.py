"""Resuming: the finished parts of an output, each complete or absent.

The folder ``.OUTPUT.distill-parts/`` next to an output contains ``made_from.json`` (input, bundle, settings) and per
part a folder ``000000`` with ``rows`` (in the output's format), ``bad.jsonl`` and ``part.json`` (counts, and the
position in the input after the part). After an interruption, the next run continues after the last part. In the end the
parts are joined, and ``done.json`` replaces them until all files of the job are finished.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from distill.data.formats.labelling import BadRow, Position, RowFile
from distill.predict.plan import bad_rows_file, file_state
from distill.progress import log
from distill.storage.atomic import TEMPORARY_SUFFIX, write_folder, write_json
from distill.storage.fingerprints import PROVENANCE_FILE, provenance_differences

PART_ROWS = 2**16  # a killed job loses at most one part
PART_CHARACTERS = 2**24  # of its texts
ROWS, BAD_ROWS, PART_CARD, DONE, JOINED = "rows", "bad.jsonl", "part.json", "done.json", "whole"


@dataclass(frozen=True)
class Counts:
    """How many rows were written and how many were bad. A bad row of a Parquet file counts as both: it is kept."""

    rows: int = 0
    bad: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.rows + other.rows, self.bad + other.bad)


@dataclass(frozen=True)
class LabelledChunk:
    """A labelled chunk; ``characters`` is the length of its texts, ``end`` the position in the input after it."""

    rows: Any
    characters: int
    counts: Counts
    bad: list[BadRow]
    end: Position


class Parts:
    """The parts of one output.

    Args:
        output: the file that they are joined into.
        name: of the input, for messages and the list of bad rows.
        provenance: everything that the output depends on; parts made from something else are removed.
    """

    def __init__(self, output: Path, name: str, provenance: dict[str, Any]) -> None:
        self.output, self.name = output, name
        self.folder = output.with_name(f".{output.name}.distill-parts")
        self.counts = Counts()
        self.position: Position | None = None  # in the input, after the last part
        self._finished: list[Path] = []
        reasons = provenance_differences(self.folder, provenance) or self._output_changes()
        if reasons:
            if self.folder.exists():
                log.info("%s: starting over: %s", output, ", ".join(reasons))
                self.remove()
            write_json(self.folder / PROVENANCE_FILE, provenance)
        if not self.are_joined:
            self._load_finished()

    @property
    def are_joined(self) -> bool:
        """Whether the output is complete."""
        return (self.folder / DONE).exists()

    @property
    def files(self) -> list[Path]:
        """The output, and the file of bad rows if there is one."""
        return [self.output, *([bad_rows_file(self.output)] if bad_rows_file(self.output).exists() else [])]

    def remove(self) -> None:
        """Remove the parts. made_from.json goes first: what a kill leaves behind is then not taken for complete."""
        (self.folder / PROVENANCE_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _output_changes(self) -> list[str]:
        """Why a complete output has to be made again: it was changed or removed since."""
        if not self.are_joined:
            return []
        recorded = json.loads((self.folder / DONE).read_text("utf-8"))
        return [] if self.output.is_file() and recorded == file_state(self.output) else ["output changed"]

    def _load_finished(self) -> None:
        for temporary in self.folder.glob(f".*{TEMPORARY_SUFFIX}"):
            shutil.rmtree(temporary)
        self._finished = sorted(self.folder.glob("[0-9]*"))
        for part in self._finished:
            card = json.loads((part / PART_CARD).read_text("utf-8"))
            self.counts, self.position = self.counts + Counts(**card["counts"]), Position(**card["end"])
        if self._finished:
            log.info("%s: resuming after %s rows that are done", self.output, f"{self.counts.rows:,}")

    def write(self, results: Iterator[LabelledChunk], rows: RowFile) -> bool:
        """Write the next part; False: there was nothing left."""
        first = next(results, None)
        if first is None:
            return False
        path, counts, characters = self.folder / f"{len(self._finished):06}", Counts(), 0
        with write_folder(path) as temporary:
            with rows.writer(temporary / ROWS) as write, (temporary / BAD_ROWS).open("wb") as bad:
                for result in chain([first], results):
                    write(result.rows)
                    bad.write(bad_row_lines(self.name, result.bad))
                    counts += result.counts
                    characters += result.characters
                    if counts.rows + counts.bad >= PART_ROWS or characters >= PART_CHARACTERS:
                        break
            write_json(temporary / PART_CARD, {"counts": asdict(counts), "end": result.end._asdict()})
        self._finished.append(path)
        self.counts += counts
        return True

    def join(self, rows: RowFile) -> None:
        """Join the parts into the output."""
        joined = self.folder / JOINED
        with write_folder(joined) as temporary:
            with rows.writer(temporary / ROWS) as write:
                for piece in chain(rows.header(), *(rows.pieces(part / ROWS) for part in self._finished)):
                    write(piece)
            with (temporary / BAD_ROWS).open("wb") as bad:
                for part in self._finished:
                    bad.write((part / BAD_ROWS).read_bytes())
        bad_rows_file(self.output).unlink(missing_ok=True)
        if self.counts.bad:
            (joined / BAD_ROWS).replace(bad_rows_file(self.output))
        (joined / ROWS).replace(self.output)
        write_json(self.folder / DONE, file_state(self.output))
        for path in (*self._finished, joined):
            shutil.rmtree(path)


def bad_row_lines(name: str, bad: list[BadRow]) -> bytes:
    """Bad rows as JSON lines."""
    rows = ({"file": name, "line": row.line, "why": row.why, "raw": row.raw} for row in bad)
    return "".join([json.dumps(row, ensure_ascii=False) + "\n" for row in rows]).encode()
