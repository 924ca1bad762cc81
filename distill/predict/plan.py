"""Which input files are labelled, and which output file each of them gets."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from distill.config import PredictSettings
from distill.data.formats import BINARY_SUFFIXES, SUFFIXES, known_suffix, suffix_of
from distill.errors import UserError, listed
from distill.progress import log
from distill.storage.encodings import COMPRESSED_SUFFIXES

STREAM = "-"
STREAM_FOLDERS = (Path("/dev"), Path("/dev/fd"), Path("/proc/self/fd"))  # /dev/stdout may be a redirected file
LINKS_SHOWN = 3
BAD_ROWS_SUFFIX = ".bad.jsonl"
OUTPUT_HINT = "--output FILE or FOLDER, or --output - for standard output"
INPUT_HINT = "--input FILE, FOLDER or 'PATTERN', or --input - for standard input"


@dataclass(frozen=True)
class FileJob:
    """One input and its output; None: standard input, standard output."""

    source: Path | None
    output: Path | None
    suffix: str  # decides the format of both

    @property
    def name(self) -> str:
        """The input, for messages."""
        return str(self.source or "standard input")


def bad_rows_file(output: Path) -> Path:
    """The file for the bad rows of an output's input."""
    return output.with_name(output.name + BAD_ROWS_SUFFIX)


def file_state(path: Path) -> dict[str, int]:
    """Size and modification time, which change when the file is written to."""
    status = path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns}


def plan_jobs(settings: PredictSettings) -> list[FileJob]:
    """One job per input file.

    Raises:
        UserError: inputs or output are not named or do not exist, two inputs share an output, or an output is an input.
    """
    check_named(settings)
    jobs = [_single_job(settings)] if _is_single(settings) else _folder_jobs(settings)
    for job in jobs:
        _check_is_file(job.output)
    jobs = [replace(job, output=job.output and job.output.resolve()) for job in jobs]  # links stay links
    _check_outputs(jobs)
    return jobs


def check_named(settings: PredictSettings) -> None:
    """Require --input and --output.

    Raises:
        UserError: one is missing.
    """
    if not settings.input:
        raise UserError("there is nothing to label", "--input", INPUT_HINT)
    if not settings.output:
        raise UserError("no output is named", "--output", OUTPUT_HINT)


def _is_single(settings: PredictSettings) -> bool:
    """Whether the input is one file or standard input, rather than several files, a folder or a pattern."""
    if STREAM in settings.input and len(settings.input) > 1:
        raise UserError("standard input cannot be combined with files", "--input", "name files, or - and nothing else")
    (first, *others) = settings.input
    return not others and (first == STREAM or Path(first).is_file())


def _single_job(settings: PredictSettings) -> FileJob:
    """A file or standard input into a file, an existing folder, or standard output."""
    (name,) = settings.input
    source = None if name == STREAM else Path(name)
    suffix = known_suffix(source) if source else f".{settings.input_format}"
    if settings.output == STREAM:
        if suffix in BINARY_SUFFIXES:
            raise UserError(f"{suffix} files cannot be written to standard output", "--output", "--output FILE")
        return FileJob(source, None, suffix)
    output = Path(settings.output)
    if output.is_dir() or settings.output.endswith("/"):
        if source is None:
            raise UserError("labelled standard input needs a file name, this is a folder", output, "--output FILE")
        output = output / _output_name(source)
    other, written = output.suffix.lower(), SUFFIXES[suffix]
    if other in COMPRESSED_SUFFIXES:
        raise UserError("the output is not compressed", output, f"--output {output.with_suffix('')}")
    if other in SUFFIXES and {other, written} not in ({other}, {".json", ".jsonl"}):
        what = f"the output has the format of the input, {written}, but its name ends with {other}"
        raise UserError(what, output, f"--output {output.with_suffix(written)}")
    return FileJob(source, output, suffix)


def _output_name(source: Path) -> str:
    """The name of an output in a folder: that of the input, with the suffix of the output's format."""
    name = source.name.removesuffix(source.suffix) if source.suffix.lower() in COMPRESSED_SUFFIXES else source.name
    return str(PurePath(name).with_suffix(SUFFIXES[suffix_of(source)])) if suffix_of(source) == ".xlsx" else name


def _folder_jobs(settings: PredictSettings) -> list[FileJob]:
    """Files, folders and patterns into a folder: the same names in the same subfolders."""
    output = Path(settings.output)
    inputs = [find_files(name) for name in settings.input]
    if settings.output == STREAM or output.is_file() or (output.suffix.lower() in SUFFIXES and not output.is_dir()):
        raise UserError("several files need a folder for their outputs", settings.output, "--output FOLDER")
    jobs = []
    for base, files in inputs:
        if base and output.resolve().is_relative_to(base.resolve()):
            raise UserError("the output would be inside an input folder", output, f"--output FOLDER outside of {base}")
        for file in files:
            folder = output / file.relative_to(base).parent if base else output
            jobs.append(FileJob(file, folder / _output_name(file), known_suffix(file)))
    return jobs


def find_files(name: str) -> tuple[Path | None, list[Path]]:
    """The base folder of a folder or pattern (None for a file), and its files of known formats, sorted.

    A file is named by the user, so a link is followed. In a folder, what a link names is read only if it is in that
    folder, and every file is read once: a folder may come from somebody else, and the output contains its rows.

    Raises:
        UserError: there is no such file.
    """
    path = Path(name)
    if path.is_file():
        return None, [path]
    base = path if path.is_dir() else _fixed_folder(path)
    paths = _matching(base, path.parts[len(base.parts) :] or ("**",))
    files = _inside(base, [path for path in paths if _is_input(path)])
    if not files:
        raise UserError(f"no such file, or no {', '.join(SUFFIXES)} file in this folder or pattern", name, INPUT_HINT)
    return base, files


def _matching(base: Path, parts: Sequence[str]) -> Iterator[Path]:
    """What matches a pattern in a folder, without hidden files.

    ``**`` does not enter links to folders, which may form loops; they are results themselves.
    """
    if not parts:
        yield base
    elif parts[0] != "**":
        for name in glob.glob(parts[0], root_dir=base):  # noqa: PTH207 (without hidden files)
            yield from _matching(base / name, parts[1:])
    else:
        yield from _matching(base, parts[1:])
        for name in glob.glob("*", root_dir=base):  # noqa: PTH207 (without hidden files)
            child = base / name
            if child.is_dir() and not child.is_symlink():
                yield from _matching(child, parts)
            elif len(parts) == 1 or child.is_symlink():
                yield child


def _is_input(path: Path) -> bool:
    """Whether a path is a file of a known format, or a link to a folder."""
    if path.is_file():
        return suffix_of(path) in SUFFIXES and not path.name.endswith(BAD_ROWS_SUFFIX)
    return path.is_symlink() and path.is_dir()


def _inside(base: Path, paths: Sequence[Path]) -> list[Path]:
    """The files that are in the folder ``base`` after links are followed, each once; one line names the other links."""
    folder = base.resolve()
    hub = [parent.with_name("blobs") for parent in (folder, *folder.parents) if parent.name == "snapshots"]
    inside: dict[Path, Path] = {}
    outside: dict[str, None] = {}
    for path in sorted(paths, key=lambda path: (path.is_symlink(), path)):  # a file comes before the links to it
        target = path.resolve()
        if not any(target.is_relative_to(root) for root in (folder, *hub)):
            outside[str(path)] = None
        elif path.is_file():
            inside.setdefault(target, path)
    if outside:
        shown = listed(list(outside), LINKS_SHOWN)
        log.warning("%s: links out of this folder are not followed: %s (--input FILE reads such a file)", base, shown)
    return sorted(inside.values())


def _fixed_folder(pattern: Path) -> Path:
    """The folder before a pattern's first wildcard."""
    parts = pattern.parts
    wild = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts) - 1)
    return Path(*parts[:wild])


def _check_is_file(output: Path | None) -> None:
    """Refuse an output that cannot be replaced: a device, a pipe, a folder, or one of this process's streams."""
    for path in (output, bad_rows_file(output)) if output else ():
        if (path.exists() and not path.is_file()) or path.parent in STREAM_FOLDERS:
            raise UserError("this is not a file that can be replaced", path, OUTPUT_HINT)


def _check_outputs(jobs: Sequence[FileJob]) -> None:
    """No file may be written twice, or overwrite an input."""
    inputs = {job.source.resolve() for job in jobs if job.source}
    written: dict[Path, FileJob] = {}
    for job in jobs:
        if job.output is None:
            continue
        for path in (job.output, bad_rows_file(job.output)):
            if path.resolve() in inputs:
                raise UserError("this input would be overwritten", path, "--output another file or folder")
            if path.resolve() in written:
                both = f"{written[path.resolve()].name} and {job.name}"
                raise UserError(
                    f"two inputs would be written into one file: {both}",
                    path,
                    "one command per input, each with its own --output",
                )
            written[path.resolve()] = job
