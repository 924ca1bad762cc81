"""The command line: what a command does, messages, exit codes. The only module that prints."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from distill.config import Settings
from distill.config.argparse import PATH, parser, settings_from
from distill.config.toml import text_of
from distill.errors import UserError, require_package
from distill.progress import reminders
from distill.training.distributed import is_main_process

__all__ = ["main", "parser", "settings_from"]

ANSWERING = ("predict", "serve")  # modes whose standard output is for answers alone: messages go to standard error
FOLLOWING = ("all", "train_teacher", "label", "train_student", "compare")  # modes whose settings follow the data
NEEDS = {"predict": "requirements-serve.txt", "serve": "requirements-serve.txt"}  # of modes that do not need everything


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns 0; 2 for an error that the user can fix; 130 after Ctrl-C; 141 when the reader of a pipe has gone.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _do(vars(parser().parse_args(given)))
        sys.stdout.flush()
        return 0
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as in distill … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that Python's last flush is quiet
        return 141
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        fault = _fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return 2


def _fault(error: Exception) -> UserError | None:
    """The error to show to the user: one of our own, or the system's about a file; None for a bug."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.filename:
        return UserError(
            (error.strerror or "cannot be used").lower(), error.filename, "check the path and its permissions"
        )
    return None


def _do(typed: dict[str, Any]) -> None:
    """What the flags ask for: a shell's completion, a settings file, or a mode."""
    if "completion" in typed:
        print(completion(typed["completion"]))
        return
    settings = settings_from(typed)
    if "save_config" in typed:
        _save_config(Path(typed["save_config"]), settings)
        return
    _run(settings)


def _save_config(path: Path, settings: Settings) -> None:
    """Write the settings, with what is chosen from the data where the mode chooses."""
    from distill.storage.atomic import write_file

    if path.is_dir():
        raise UserError("a file is needed, this is a folder", path, "--save_config FILE")
    if settings.run.mode in FOLLOWING:
        from distill.commands import with_chosen

        _log_to(settings.run.mode)
        settings = with_chosen(settings)
    write_file(path, text_of(settings))
    print(f"written: {path}; use it with: python distill.py --config {path}")


def completion(shell: str) -> str:
    """The script that completes ``distill`` in a shell: flags, their choices, and files where a path is wanted.

    Raises:
        UserError: shtab, which writes it, is not installed.
    """
    require_package("shtab", "--completion", "pip install shtab")
    import shtab

    made = parser()
    made.prog = "distill"
    for action in made._actions:
        if action.metavar == PATH:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(made, shell))


def _run(settings: Settings) -> None:
    """Do what the mode says; of several processes the first one alone speaks."""
    reminders.clear()
    mode, speaks = settings.run.mode, is_main_process()
    _log_to(mode)
    if mode in ANSWERING and not speaks:
        return
    try:
        files = _command(settings)(settings)
    except ModuleNotFoundError as error:
        package = (error.name or "distill").partition(".")[0]
        if package == "distill":  # the user cannot fix a missing module of ours
            raise
        hint = f"pip install -r {NEEDS.get(mode, 'requirements.txt')}"
        raise UserError(f"--mode {mode} needs the package {package}", None, hint) from error
    if files and speaks:
        print("\n".join(["\nwritten:", *(f"  {path}" for path in _all_files(files))]), file=_stream(mode))
    if reminders and speaks:
        print("\n".join(["", *(f"warning: {reminder}" for reminder in reminders)]), file=_stream(mode))


def _log_to(mode: str) -> None:
    logger = logging.getLogger("distill")
    logger.setLevel(logging.INFO if is_main_process() else logging.ERROR)
    logger.handlers = [_Handler(mode)]


class _Handler(logging.Handler):
    """Prints messages above a running progress bar."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        stream = _stream(self.mode)
        tqdm.write(self.format(record), file=stream)
        stream.flush()


def _stream(mode: str) -> TextIO:
    return sys.stderr if mode in ANSWERING else sys.stdout


def _command(settings: Settings) -> Callable[[Settings], list[Path]]:
    """What a mode does; imported when it is asked for, as PyTorch takes seconds that the others need not wait."""
    if settings.run.mode == "predict":
        from distill.predict import predict

        return predict
    if settings.run.mode == "serve":
        from distill.serve import serve

        return serve
    from distill import commands
    from distill.training import tensorboard

    if settings.run.tensorboard:
        tensorboard.require_tensorboard()
    return commands.run


def _all_files(paths: Sequence[Path]) -> list[Path]:
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]
    return list(dict.fromkeys(files))
