"""What is done of an output, in a folder beside it: parts, each complete or absent.

``.OUTPUT.distill-parts/`` holds ``made_from.json`` (input, bundle, settings), and for every part a folder ``000000``
with ``rows`` (in the output's format), ``bad.jsonl`` and ``part.json`` (counts, and where the input goes on). After a
kill the next run goes on behind the last part. When all is done the parts are joined, and ``done.json`` stands for them
until the last file of the job is done.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from distill.predict.plan import bad_file, stamp
from distill.predict.rows import Bad, Format, Position
from distill.progress import log
from distill.storage.atomic import TEMPORARY_SUFFIX, write_folder, write_json
from distill.storage.fingerprints import PROVENANCE_FILE, provenance_differences

PART_ROWS = 2**16  # a kill costs the work on one part at most
PART_CHARACTERS = 2**24  # of its texts
ROWS, BAD_ROWS, CARD, DONE, WHOLE = "rows", "bad.jsonl", "part.json", "done.json", "whole"


@dataclass(frozen=True)
class Counts:
    """How many rows were written, and how many were bad (of a Parquet file both, as such a row stays)."""

    rows: int = 0
    bad: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.rows + other.rows, self.bad + other.bad)


@dataclass(frozen=True)
class Labelled:
    """A chunk of the output; ``characters`` are those of its texts."""

    rows: Any
    characters: int
    counts: Counts
    bad: list[Bad]
    end: Position


class Parts:
    """The parts of one output.

    Args:
        output: the file that they become.
        name: of the input, for messages and the list of bad rows.
        wanted: what the output follows from; parts that were made from something else are removed.
    """

    def __init__(self, output: Path, name: str, wanted: dict[str, Any]) -> None:
        self.output, self.name = output, name
        self.folder = output.with_name(f".{output.name}.distill-parts")
        self.counts = Counts()
        self.position: Position | None = None  # where the input goes on
        self._done: list[Path] = []
        faults = provenance_differences(self.folder, wanted) or self._lost()
        if faults:
            if self.folder.exists():
                log.info("%s: begun anew: %s", output, ", ".join(faults))
                self.remove()
            write_json(self.folder / PROVENANCE_FILE, wanted)
        if not self.are_joined:
            self._find_done()

    @property
    def are_joined(self) -> bool:
        """Whether the output is finished."""
        return (self.folder / DONE).exists()

    @property
    def files(self) -> list[Path]:
        """The output, and the bad rows where there are some."""
        return [self.output, *([bad_file(self.output)] if bad_file(self.output).exists() else [])]

    def remove(self) -> None:
        """Forget the parts; the record goes first, so that nobody takes for whole what a kill leaves."""
        (self.folder / PROVENANCE_FILE).unlink(missing_ok=True)
        shutil.rmtree(self.folder)

    def _lost(self) -> list[str]:
        """What happened to a finished output."""
        if not self.are_joined:
            return []
        recorded = json.loads((self.folder / DONE).read_text("utf-8"))
        return [] if self.output.is_file() and recorded == stamp(self.output) else ["output changed"]

    def _find_done(self) -> None:
        for left in self.folder.glob(f".*{TEMPORARY_SUFFIX}"):
            shutil.rmtree(left)
        self._done = sorted(self.folder.glob("[0-9]*"))
        for part in self._done:
            card = json.loads((part / CARD).read_text("utf-8"))
            self.counts, self.position = self.counts + Counts(**card["counts"]), Position(**card["end"])
        if self._done:
            log.info("%s: %s rows were done, it goes on from there", self.output, f"{self.counts.rows:,}")

    def write(self, results: Iterator[Labelled], form: Format) -> bool:
        """Write one more part; False: there was nothing left."""
        first = next(results, None)
        if first is None:
            return False
        path, counts, characters = self.folder / f"{len(self._done):06}", Counts(), 0
        with write_folder(path) as temporary:
            with form.writer(temporary / ROWS) as write, (temporary / BAD_ROWS).open("wb") as bad:
                for piece in chain([first], results):
                    write(piece.rows)
                    bad.write(bad_lines(self.name, piece.bad))
                    counts += piece.counts
                    characters += piece.characters
                    if counts.rows + counts.bad >= PART_ROWS or characters >= PART_CHARACTERS:
                        break
            write_json(temporary / CARD, {"counts": asdict(counts), "end": piece.end._asdict()})
        self._done.append(path)
        self.counts += counts
        return True

    def join(self, form: Format) -> None:
        """Make the output of the parts."""
        whole = self.folder / WHOLE
        with write_folder(whole) as temporary:
            with form.writer(temporary / ROWS) as write:
                for piece in chain(form.head(), *(form.pieces(part / ROWS) for part in self._done)):
                    write(piece)
            with (temporary / BAD_ROWS).open("wb") as bad:
                for part in self._done:
                    bad.write((part / BAD_ROWS).read_bytes())
        bad_file(self.output).unlink(missing_ok=True)
        if self.counts.bad:
            (whole / BAD_ROWS).replace(bad_file(self.output))
        (whole / ROWS).replace(self.output)
        write_json(self.folder / DONE, stamp(self.output))
        for path in (*self._done, whole):
            shutil.rmtree(path)


def bad_lines(name: str, bad: list[Bad]) -> bytes:
    """Bad rows as JSON lines."""
    rows = ({"file": name, "line": row.line, "why": row.why, "raw": row.raw} for row in bad)
    return "".join([json.dumps(row, ensure_ascii=False) + "\n" for row in rows]).encode()
