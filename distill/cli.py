"""The command line: parses flags, runs a mode, prints messages and sets exit codes. No other module prints messages."""

from __future__ import annotations

import errno
import io
import logging
import os
import platform
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, TextIO

from distill import __version__
from distill.config import MODES, Settings
from distill.config.argparse import PATH, parser, settings_from
from distill.config.modes import Mode
from distill.config.toml import to_toml
from distill.errors import CHECK_DISK, FREE_SPACE, UserError, is_disk_full, naming_extra, require_package
from distill.progress import MessageHandler, reminders
from distill.training.distributed import is_main_process

__all__ = ["main", "parser", "settings_from"]

OUTPUT_HINT = "free some space, or send the output somewhere else"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit code: 0 for success, 2 for an error that the user can fix, 130 after Ctrl-C, 141 when the reader
    of a pipe has closed it.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    try:
        try:
            _dispatch(vars(parser().parse_args(arguments)))
        finally:  # --help leaves by SystemExit
            sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("\ninterrupted; finished stages are kept: run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in distill … | head
        _discard_output()
        return 141
    except Exception as error:
        if "--debug" in arguments:
            traceback.print_exc()
        user_error = _user_error(error)
        if user_error is None:
            raise
        print(f"error: {user_error}", file=sys.stderr)
        return 2


def _user_error(error: Exception) -> UserError | None:
    """The error as one that the user can fix: ours, or the operating system's about a file or standard output.

    None for a bug.
    """
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.filename:
        hint = FREE_SPACE if is_disk_full(error) else "check the path and its permissions"
        return UserError((error.strerror or "cannot be read or written").lower(), error.filename, hint)
    if isinstance(error, OSError) and (_is_output_broken() or is_disk_full(error)):
        reason = (error.strerror or "output error").lower()
        return UserError(f"standard output cannot be written: {reason}", None, OUTPUT_HINT)
    if isinstance(error, OSError) and error.errno == errno.EIO:
        return UserError("input/output error", None, CHECK_DISK)
    return None


def _is_output_broken() -> bool:
    """Whether standard output cannot be written; what it still holds is then discarded."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()
        return True
    return False


def _discard_output() -> None:
    """Discard what standard output holds and will get, or Python's last flush would fail again, with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _dispatch(flags: dict[str, Any]) -> None:
    """Do what the flags ask for: print a completion script, write a settings file, or run a mode."""
    if "completion" in flags:
        print(completion(flags["completion"]))
        return
    if "version" in flags:
        print(versions())
        return
    settings = settings_from(flags)
    if "save_config" in flags:
        _save_config(Path(flags["save_config"]), settings)
        return
    _run(settings)


def _save_config(path: Path, settings: Settings) -> None:
    """Write a settings file; numbers that the mode chooses from the data are written too."""
    from distill.storage.atomic import write_file

    mode = MODES[settings.run.mode]
    if path.is_dir():
        raise UserError("this is a folder, a file is needed", path, "--save_config FILE")
    if mode.chooses_settings:
        with _packages_of(settings):
            from distill.commands import with_chosen_settings

            _log_as(mode)
            settings = with_chosen_settings(settings)
    write_file(path, to_toml(settings))
    print(f"written: {path}; use it with: python distill.py --config {path}")


def completion(shell: str) -> str:
    """The script that completes ``distill`` in a shell: flags, their choices, and files where a path is expected.

    Raises:
        UserError: the package shtab, which writes the script, is not installed.
    """
    require_package("shtab", "--completion", "pip install shtab")
    import shtab

    distill = parser()
    distill.prog = "distill"
    for action in distill._actions:
        if action.metavar == PATH:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(distill, shell))


def versions() -> str:
    """The versions of the program, of Python and of the main libraries, and where the compiled kernels come from."""
    from importlib import metadata  # takes long to import

    lines = [f"distill-zh {__version__}", f"python {platform.python_version()}"]
    for package in ("numpy", "torch", "transformers"):
        try:
            lines.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(f"{package} is not installed")
    with suppress(ModuleNotFoundError):  # without numpy
        from distill.runtime.native import packaged

        variant = packaged()
        lines.append(f"kernels {variant.name}" if variant else "kernels are compiled when they are first used")
    return "\n".join(lines)


def _run(settings: Settings) -> None:
    """Run the mode and print what it wrote; in a launch of several processes only the first one prints."""
    reminders.clear()
    mode, prints = MODES[settings.run.mode], is_main_process()
    _log_as(mode)
    if not mode.takes_run and not prints:
        return
    with _packages_of(settings):
        written = _function(mode)(settings)
    if written and prints:
        print("\n".join(["\nwritten:", *(f"  {path}" for path in _files_in(written))]), file=_stream(mode))
    if reminders and prints:
        print("\n".join(["", *(f"warning: {reminder}" for reminder in reminders)]), file=_stream(mode))


def _packages_of(settings: Settings) -> AbstractContextManager[None]:
    """Within this context, the error about a package that is not installed names the mode's extra."""
    mode = settings.run.mode
    return naming_extra(f"--mode {mode}", MODES[mode].extra)


def _function(mode: Mode) -> Callable[[Settings], list[Path]]:
    """The function that runs a mode with the settings; importing it here keeps ``--help`` fast."""
    if not mode.takes_run:
        function: Callable[[Settings], list[Path]] = resolve_name(mode.function)
        return function
    from distill import commands

    return commands.run_mode


def _stream(mode: Mode) -> TextIO:
    return sys.stderr if mode.results_on_stdout else sys.stdout


def _log_as(mode: Mode) -> None:
    logger = logging.getLogger("distill")
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    logger.handlers = [MessageHandler(lambda: _stream(mode))]


def _files_in(paths: Sequence[Path]) -> list[Path]:
    """The files among ``paths`` and in the folders among them, each once."""
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]
    return list(dict.fromkeys(files))
