"""Resuming: the finished parts of an output, each complete or absent.

The folder ``.OUTPUT.distill-parts/`` next to an output contains ``made_from.json`` (input, bundle, settings) and per
part a folder ``000000`` with ``rows`` (as in the output; of Parquet a stream of Arrow), ``bad.jsonl`` and ``part.json``
(counts, the position in the input after the part, and checksums). After an interruption, the next run continues after
the last part; a part that is damaged, and all after it, are made again. In the end the parts are joined, and
``done.json`` replaces them until all files of the job are finished. Only the user who runs the job can read the folder.
"""

from __future__ import annotations

import json
import operator
import stat
from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np

from distill.data.formats.labelling import BadRow, Chunk, Position, Predictions, RowFile
from distill.errors import UserError
from distill.predict.plan import bad_rows_file, file_state
from distill.progress import log
from distill.storage.atomic import PARTS_SUFFIX, put_in_place, remove, write_folder, write_json
from distill.storage.fingerprints import PROVENANCE_FILE, fingerprint_file, fingerprint_texts, provenance_differences

VERSION = 4  # of the parts; those of another version are not used

PART_ROWS = 2**16  # a killed job loses at most one part
PART_TEXT = 2**24  # characters or bytes of its texts
ROWS, BAD_ROWS, PART_CARD, DONE, JOINED = "rows", "bad.jsonl", "part.json", "done.json", "whole"
PRIVATE = 0o700  # permissions of the folder: the output may be private


@dataclass(frozen=True)
class Counts:
    """How many rows were written and how many were bad. A bad row of a Parquet file counts as both: it is kept.

    ``rejected`` are rows without a label because of --reject_below, ``by_teacher`` those that the teacher labelled.
    """

    rows: int = 0
    bad: int = 0
    rejected: int = 0
    by_teacher: int = 0

    @classmethod
    def of(cls, chunk: Chunk, predictions: Predictions) -> Self:
        """Of a labelled chunk."""
        rejected = sum(bool(chunk.texts[index]) for index in np.flatnonzero(predictions.is_rejected_somewhere).tolist())
        return cls(len(chunk.rows), len(chunk.bad), rejected, predictions.from_teacher)

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(operator.add, astuple(self), astuple(other)))


@dataclass(frozen=True)
class LabelledChunk:
    """A labelled chunk; ``text_size`` is the length of its texts, ``end`` the position in the input after it."""

    rows: Any
    text_size: int
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
        self.folder = output.with_name(f".{output.name}{PARTS_SUFFIX}")
        self.counts = Counts()
        self.position: Position | None = None  # in the input, after the last part
        self._finished: list[Path] = []
        provenance = {"version": VERSION, **provenance}
        reasons = provenance_differences(self.folder, provenance) or self._output_changes()
        if reasons:
            if self.folder.exists():
                log.info("%s: starting over: %s", output, ", ".join(reasons))
            self.remove()
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(PRIVATE)
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
        remove(self.folder)

    def _output_changes(self) -> list[str]:
        """Why a complete output has to be made again: it was changed or removed since."""
        if not self.are_joined:
            return []
        try:
            recorded = json.loads((self.folder / DONE).read_text("utf-8"))
        except ValueError:
            return [f"{DONE} is broken"]
        return [] if self.output.is_file() and recorded == file_state(self.output) else ["output changed"]

    def _load_finished(self) -> None:
        """Use the parts before the first that is missing or damaged; what else is in the folder is removed."""
        while card := _read_card(self._part(len(self._finished))):
            self._finished.append(self._part(len(self._finished)))
            self.counts, self.position = self.counts + Counts(**card["counts"]), Position(**card["end"])
        used = {self.folder / PROVENANCE_FILE, *self._finished}
        others = sorted((path for path in self.folder.iterdir() if path not in used), reverse=True)
        if any(path.name.isdecimal() for path in others):
            damaged = self._part(len(self._finished)).name
            log.info(
                "%s: part %s is damaged or missing; it and the parts after it are made again", self.output, damaged
            )
        for path in others:
            remove(path)
        if self._finished:
            log.info("%s: resuming after %s rows that are done", self.output, f"{self.counts.rows:,}")

    def _part(self, number: int) -> Path:
        return self.folder / f"{number:06}"

    def write(self, results: Iterator[LabelledChunk], rows: RowFile) -> bool:
        """Write the next part; False: there was nothing left."""
        first = next(results, None)
        if first is None:
            return False
        path, counts, size = self._part(len(self._finished)), Counts(), 0
        with write_folder(path) as temporary:
            with rows.part_writer(temporary / ROWS) as write, (temporary / BAD_ROWS).open("wb") as bad:
                for result in chain([first], results):
                    write(result.rows)
                    bad.write(bad_row_lines(self.name, result.bad))
                    counts += result.counts
                    size += result.text_size
                    if counts.rows + counts.bad >= PART_ROWS or size >= PART_TEXT:
                        break
            write_json(temporary / PART_CARD, _card(temporary, asdict(counts), result.end._asdict()))
        self._finished.append(path)
        self.counts += counts
        return True

    def join(self, rows: RowFile) -> None:
        """Join the parts into the output.

        Raises:
            UserError: a part was damaged after it was written.
        """
        for part in self._finished:
            if not _read_card(part):
                raise UserError("this part was damaged after it was written", part, "run the same command again")
        joined = self.folder / JOINED
        with write_folder(joined) as temporary:
            with rows.writer(temporary / ROWS) as write:
                for piece in chain(rows.header(), *(rows.pieces(part / ROWS) for part in self._finished)):
                    write(piece)
            with (temporary / BAD_ROWS).open("wb") as bad:
                for part in self._finished:
                    bad.write((part / BAD_ROWS).read_bytes())
        self._put_bad_rows(joined / BAD_ROWS)
        put_in_place(joined / ROWS, self.output)
        write_json(self.folder / DONE, file_state(self.output))
        for path in (*self._finished, joined):
            remove(path)

    def _put_bad_rows(self, written: Path) -> None:
        """Put the file of bad rows beside the output, with the permissions of an output that is replaced."""
        target = bad_rows_file(self.output)
        if not self.counts.bad:
            target.unlink(missing_ok=True)
            return
        if self.output.exists():
            written.chmod(stat.S_IMODE(self.output.stat().st_mode))
        put_in_place(written, target)


def _card(part: Path, counts: dict[str, int], end: dict[str, int]) -> dict[str, Any]:
    """The record of a part: its counts, its end in the input, and checksums of its files and of this record."""
    files = {name: fingerprint_file(part / name) for name in (ROWS, BAD_ROWS)}
    card = {"counts": counts, "end": end, "files": files}
    return card | {"checksum": fingerprint_texts([json.dumps(card)])}


def _read_card(part: Path) -> dict[str, Any] | None:
    """The record of a part; None: the part is missing or damaged."""
    try:
        card: dict[str, Any] = json.loads((part / PART_CARD).read_text("utf-8"))
        return card if card == _card(part, card["counts"], card["end"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def bad_row_lines(name: str, bad: list[BadRow]) -> bytes:
    """Bad rows as JSON lines; a byte of the name that is not UTF-8 is an escape."""
    rows = ({"file": name, "line": row.line, "why": row.why, "raw": row.raw} for row in bad)
    return "".join([json.dumps(row, ensure_ascii=False) + "\n" for row in rows]).encode(errors="backslashreplace")
