"""Run commands of the program in child processes that are killed, or whose disk is full, at a chosen system call.

A small library in C (injection.c), loaded before all others, counts the calls that change files below a folder. A
script that uses it calls :func:`restart_with_library` first. The commands are forked from the script, so that importing
PyTorch once is enough.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CONTROL, PRELOAD = "INJECTION_CONTROL", "LD_PRELOAD"
ENTRIES = 16384
TIME_LIMIT_S = 300
LEFTOVERS = ("distill-aside", "distill-old", "distill-parts", "distill-lock", "distill-done")
DURATIONS = ("seconds", "log.jsonl")  # fields of JSON files that no two runs share: the log contains durations


class _Entry(ctypes.Structure):
    _fields_ = (("call", ctypes.c_char * 16), ("path", ctypes.c_char * 240))


class _Control(ctypes.Structure):
    """``struct control`` of injection.c."""

    _fields_ = (
        ("root", ctypes.c_char * 512),
        ("calls", ctypes.c_int64),
        ("at", ctypes.c_int64),
        ("error", ctypes.c_int32),
        ("lasting", ctypes.c_int32),
        ("log", _Entry * ENTRIES),
    )


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code (negative: the signal), what it printed, and the calls that it made."""

    code: int
    printed: str
    calls: tuple[str, ...]
    seconds: float

    @property
    def was_killed(self) -> bool:
        """Whether SIGKILL ended it."""
        return self.code == -signal.SIGKILL


def restart_with_library() -> None:
    """Start this script again with the library, unless it has it; exits if there is no compiler."""
    if CONTROL in os.environ:
        return
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler or sys.platform != "linux":
        sys.exit("this needs Linux and a C compiler")
    folder = Path(tempfile.mkdtemp(prefix="injection-"))
    library, control = folder / "injection.so", folder / "control"
    command = [compiler, "-O2", "-Wall", "-shared", "-fPIC", "-o", str(library), str(HERE / "injection.c")]
    subprocess.run(command, check=True)  # noqa: S603
    control.write_bytes(bytes(ctypes.sizeof(_Control)))
    environment = {**os.environ, PRELOAD: str(library), CONTROL: str(control), "OMP_NUM_THREADS": "1"}
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)  # noqa: S606


class Injector:
    """Runs ``function(arguments)`` in child processes; ``root`` is the folder whose calls are counted."""

    def __init__(self, function: Callable[[Sequence[str]], int], root: Path) -> None:
        self._function, self._root = function, root
        with Path(os.environ[CONTROL]).open("r+b") as file:
            self._control = _Control.from_buffer(mmap.mmap(file.fileno(), 0))
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this object)

    def run(
        self,
        arguments: Sequence[str],
        *,
        at: int = 0,
        error: int = 0,
        lasting: bool = False,
        kill_after: float | None = None,
    ) -> Outcome:
        """Run a command.

        Args:
            arguments: of the command line.
            at: the number of the call before which the process is killed, from 1; 0: none.
            error: the number of an error that this call returns instead.
            lasting: whether all later calls that need space fail as well.
            kill_after: seconds until the process is killed.
        """
        self._output.seek(0)
        self._output.truncate()
        control = self._control
        control.calls, control.at, control.error, control.lasting = 0, at, error, lasting
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            self._be_command(arguments)
        timer = threading.Timer(TIME_LIMIT_S if kill_after is None else kill_after, _kill, (child,))
        timer.start()
        _, status = os.waitpid(child, 0)
        timer.cancel()
        control.root = b""  # what this process does itself is not counted
        self._output.seek(0)
        calls = tuple(f"{entry.call.decode()} {entry.path.decode()}" for entry in control.log[: control.calls])
        printed = self._output.read().decode("utf-8", "replace")
        seconds = time.perf_counter() - started
        return Outcome(os.waitstatus_to_exitcode(status), printed, calls, seconds)

    def _be_command(self, arguments: Sequence[str]) -> None:
        code = 1
        try:
            for descriptor in (1, 2):
                os.dup2(self._output.fileno(), descriptor)
            os.setsid()
            self._control.root = os.fsencode(self._root)
            code = self._function(arguments)
        except SystemExit as exit_:
            code = int(exit_.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)


def _kill(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def contents(folder: Path) -> dict[str, Any]:
    """Every file below a folder: its permissions and content; in JSON without durations."""
    return {
        str(path.relative_to(folder)): (oct(path.stat().st_mode), _content(path))
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def leftovers(folder: Path) -> list[str]:
    """Temporary files, folders of parts and locks that a command should not leave behind."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.name.endswith(LEFTOVERS)]


def _content(path: Path) -> Any:
    if path.suffix not in (".json", ".jsonl"):
        return path.read_bytes()
    try:
        return [_without_durations(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    except ValueError:
        try:
            return _without_durations(json.loads(path.read_text("utf-8")))
        except ValueError:
            return path.read_bytes()


def _without_durations(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_durations(item) for key, item in value.items() if key not in DURATIONS}
    return value


def restore(saved: Path, folder: Path) -> None:
    """Make a folder a copy of a saved one, modification times included."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(saved, folder, dirs_exist_ok=True)
