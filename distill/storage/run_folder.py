"""A run's folder: where each thing lies, how it is written whole, and what it was made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import IO, Any, Self

from distill.config import Settings
from distill.errors import UserError, is_disk_full
from distill.progress import log

MADE_FROM = "made_from.json"
ASIDE = ".distill-aside"
DEMO = "demo"  # the run of the embedded reviews
PACKAGES = ("torch", "transformers", "gensim", "jieba", "scikit-learn", "numpy")


@dataclass(frozen=True)
class RunFolder:
    """The layout of ``runs/NAME``; the only place that knows it."""

    root: Path

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The folder of a run: ``--run``, or runs/ and the name of the data's folder.

        Raises:
            UserError: it is a file.
        """
        root = Path(settings.run.run or Path("runs", settings.data.name or DEMO))
        if root.exists() and not root.is_dir():
            raise UserError("a run's folder is needed, this is a file", root, "--run FOLDER")
        return cls(root)

    def answers(self, teacher: Path, what: str) -> Path:
        """Folder where a teacher's answers are kept; of a teacher from elsewhere its whole path counts."""
        own = teacher.parent.resolve() == self.root.resolve()
        name = teacher.name if own else f"{teacher.resolve().name}-{fingerprint_lines([str(teacher.resolve())])[:8]}"
        return self.root / "cache" / f"{name}.{what}"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def config(self) -> Path:
        """File of the run's settings."""
        return self.root / "config.json"

    def model(self, kind: str, place: int = 0) -> Path:
        """Folder of a model; the first seed's is ``KIND``, later ones ``KIND.2``, ``KIND.3`` and so on."""
        return self.root / (kind if place == 0 else f"{kind}.{place + 1}")

    @property
    def label_noise(self) -> Path:
        """Table of the labels that the teacher doubts."""
        return self.report / "label_noise.csv"

    @property
    def bundle(self) -> Path:
        """Folder of the student that runs without PyTorch."""
        return self.root / "bundle"

    @property
    def tensorboard(self) -> Path:
        """Folder of the training curves for TensorBoard."""
        return self.root / "tensorboard"

    @property
    def onnx(self) -> Path:
        """Folder of the ONNX files."""
        return self.root / "onnx"

    @property
    def compare(self) -> Path:
        """Folder of the comparison: its table, and a folder of students for every row."""
        return self.root / "compare"

    @property
    def benchmark(self) -> Path:
        """Folder of the table of speed."""
        return self.root / "benchmark"


def bundle_of(settings: Settings) -> Path:
    """The bundle that is used: that of ``--bundle``, or the run's own."""
    return Path(settings.predict.bundle) if settings.predict.bundle else RunFolder.of(settings).bundle


@contextlib.contextmanager
def _space_checked(path: Path) -> Iterator[None]:
    """Turn "no space left" into a message; anything else passes through."""
    try:
        yield
    except Exception as error:
        if is_disk_full(error):
            raise UserError(
                "the disk is full; nothing was half-written", path, "free some space, then type the same command again"
            ) from error
        raise


def write_file(path: Path, content: bytes | str) -> Path:
    """Write ``content`` to ``path`` aside and rename it last: it is there whole or not at all."""
    payload = content.encode("utf-8") if isinstance(content, str) else content
    with _space_checked(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}.{os.getpid()}{ASIDE}")
        try:
            aside.write_bytes(payload)
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    return path


def write_json(path: Path, content: Any) -> Path:
    """``content`` as indented UTF-8 JSON, written by :func:`write_file`."""
    return write_file(path, json.dumps(content, ensure_ascii=False, indent=2) + "\n")


@contextlib.contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; it replaces ``path`` only when the block ends well."""
    with _space_checked(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=ASIDE, dir=path.parent))
        try:
            yield aside
            aside.chmod(0o755)
            if path.exists():
                old = aside.with_name(f"{aside.name}.old{ASIDE}")
                path.replace(old)
                aside.replace(path)
                shutil.rmtree(old)
            else:
                aside.replace(path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[None]:
    """Within the block only this process writes ``path``. The lock is the system's: a killed process leaves none.

    Raises:
        UserError: another process is within its block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.distill-lock")
    with lock.open("w") as held:
        try:
            _lock(held)
        except BlockingIOError as error:
            raise UserError(
                "another process is writing this", path, "wait until it ends, or --output another one"
            ) from error
        except OSError:
            log.debug("%s: this disk knows no locks", path)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _lock(file: IO[str]) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def clean(root: Path) -> None:
    """Remove what killed writers left aside in a run's folder, and nothing else."""
    for folder in (root, *(root / name for name in ("cache", "report", "compare", "tune", "benchmark"))):
        for left in [*folder.glob(f".*{ASIDE}"), *folder.glob(f"*/.*{ASIDE}")]:
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink()


def fingerprint_lines(lines: Iterable[str]) -> str:
    """Fingerprint of texts in their order; a text's end is unambiguous."""
    digest = hashlib.sha256()
    for line in lines:
        raw = line.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()[:16]


def fingerprint_file(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def made_from(folder: Path) -> dict[str, Any] | None:
    """The record of what a folder was made from; None where it is missing or broken."""
    try:
        recorded = json.loads((folder / MADE_FROM).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return recorded if isinstance(recorded, dict) else None


def differences(folder: Path, wanted: dict[str, Any]) -> list[str]:
    """Names of the things that ``folder`` was not made from, as asked for now; [] when it is current.

    Only the keys of ``wanted`` are compared, so a caller may ask about some of them.
    """
    recorded = made_from(folder)
    if recorded is None:
        return ["its record is broken" if (folder / MADE_FROM).exists() else "it is not there"]
    return [f"{key} changed" for key, value in wanted.items() if recorded.get(key) != value]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's figures."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in PACKAGES}}
