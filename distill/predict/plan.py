"""Which file is read, and which is written for it."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill.config import PredictSettings
from distill.data.readers import SUFFIXES
from distill.errors import UserError

STREAM = "-"
BAD = ".bad.jsonl"
NAMED_OUTPUT = "--output FILE or FOLDER, or --output - for standard output"
NAMED_INPUT = "--input FILE, FOLDER or 'PATTERN', or --input - for standard input"


@dataclass(frozen=True)
class FileJob:
    """One input and its output; None: standard input, standard output."""

    source: Path | None
    output: Path | None
    suffix: str  # tells the format of both

    @property
    def name(self) -> str:
        """The input, for messages."""
        return str(self.source or "standard input")


def bad_file(output: Path) -> Path:
    """Where the bad rows of an output's input are written."""
    return output.with_name(output.name + BAD)


def stamp(path: Path) -> dict[str, int]:
    """What changes when somebody writes to a file."""
    about = path.stat()
    return {"size": about.st_size, "mtime_ns": about.st_mtime_ns}


def plan_jobs(settings: PredictSettings) -> list[FileJob]:
    """What is to be done, one file after the other.

    Raises:
        UserError: inputs or output are not named or not there, two inputs have one output, or an input is an output.
    """
    check_named(settings)
    jobs = [_one(settings)] if _is_one(settings) else _several(settings)
    _check(jobs)
    return jobs


def check_named(settings: PredictSettings) -> None:
    """Inputs and output must be named.

    Raises:
        UserError: they are not.
    """
    if not settings.input:
        raise UserError("there is nothing to label", "--input", NAMED_INPUT)
    if not settings.output:
        raise UserError("it is not said where to write", "--output", NAMED_OUTPUT)


def _is_one(settings: PredictSettings) -> bool:
    if STREAM in settings.input and len(settings.input) > 1:
        raise UserError("standard input comes alone", "--input", "name files, or - and nothing else")
    (first, *others) = settings.input
    return not others and (first == STREAM or Path(first).is_file())


def _one(settings: PredictSettings) -> FileJob:
    """A file or standard input into a file, a folder that is there, or standard output."""
    (given,) = settings.input
    source = None if given == STREAM else Path(given)
    suffix = _suffix(source) if source else f".{settings.input_format}"
    if settings.output == STREAM:
        if suffix == ".parquet":
            raise UserError("Parquet is not written to standard output", "--output", "--output FILE")
        return FileJob(source, None, suffix)
    output = Path(settings.output)
    if output.is_dir() or settings.output.endswith("/"):
        if source is None:
            raise UserError("what standard input holds needs a file's name, this is a folder", output, "--output FILE")
        output = output / source.name
    other = output.suffix.lower()
    if other in SUFFIXES and other.replace("jsonl", "json") != suffix.replace("jsonl", "json"):
        what = f"the output is of the input's format, {suffix}, and this name says {other}"
        raise UserError(what, output, f"--output {output.with_suffix(suffix)}")
    return FileJob(source, output, suffix)


def _several(settings: PredictSettings) -> list[FileJob]:
    """Files, folders and patterns into a folder: the same names, in the same folders."""
    output = Path(settings.output)
    found = [find_files(given) for given in settings.input]
    if settings.output == STREAM or output.is_file() or (output.suffix.lower() in SUFFIXES and not output.is_dir()):
        raise UserError("several files need a folder for their outputs", settings.output, "--output FOLDER")
    jobs = []
    for base, files in found:
        if base and output.resolve().is_relative_to(base.resolve()):
            raise UserError("the output would lie among the inputs", output, f"--output FOLDER outside of {base}")
        jobs += [
            FileJob(file, output / (file.relative_to(base) if base else file.name), _suffix(file)) for file in files
        ]
    return jobs


def find_files(given: str) -> tuple[Path | None, list[Path]]:
    """The folder that an input names (None: a file), and its files in the order of their names.

    Raises:
        UserError: there is none of a known format.
    """
    path = Path(given)
    if path.is_file():
        return None, [path]
    if path.is_dir():
        base, found = path, [file for file in path.rglob("*") if not _is_hidden(file.relative_to(path))]
    else:
        base, found = _fixed(path), [Path(name) for name in glob.glob(given, recursive=True)]  # noqa: PTH207 (it may be absolute)
    files = sorted(file for file in found if file.is_file() and file.suffix.lower() in SUFFIXES and not _is_bad(file))
    if not files:
        raise UserError(f"there is no file of {', '.join(SUFFIXES)} here", given, NAMED_INPUT)
    return base, files


def _fixed(pattern: Path) -> Path:
    """The folder before a pattern's first wildcard."""
    parts = pattern.parts
    wild = next((place for place, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:wild])


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_bad(path: Path) -> bool:
    return path.name.endswith(BAD)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"unknown kind of file {suffix!r}", path, f"rename or convert it to {', '.join(SUFFIXES)}")
    return suffix


def _check(jobs: Sequence[FileJob]) -> None:
    """No file is written twice, or over an input."""
    inputs = {job.source.resolve() for job in jobs if job.source}
    written: dict[Path, FileJob] = {}
    for job in jobs:
        if job.output is None:
            continue
        for path in (job.output, bad_file(job.output)):
            if path.resolve() in inputs:
                raise UserError("this input would be written over", path, "--output another file or folder")
            if path.resolve() in written:
                both = f"{written[path.resolve()].name} and {job.name}"
                raise UserError(f"two inputs would be written into one file: {both}", path, "label them one by one")
            written[path.resolve()] = job
