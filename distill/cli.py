"""The command line: flags made from the settings, messages, exit codes. The only room that prints."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from distill.config import SECTIONS, Settings, flag_of
from distill.errors import UserError

HELP = "python distill.py --help"


class Parser(argparse.ArgumentParser):
    """A parser whose faults are our own one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and the nearest flag to an unknown one."""
        unknown = message.rpartition(": ")[2].partition(" ")[0] if message.startswith("unrecognized") else ""
        near = difflib.get_close_matches(unknown, self._option_string_actions, 1)
        raise UserError(message, None, f"did you mean {near[0]}?" if near else HELP)


def parser() -> Parser:
    """All flags, grouped as the settings are."""
    made = Parser(
        prog="distill.py",
        description="Teach a small biLSTM what a fine-tuned BERT knows about short Chinese texts.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    for section, kind in SECTIONS.items():
        group = made.add_argument_group(section, (kind.__doc__ or "").splitlines()[0])
        for field in fields(kind):
            group.add_argument(f"--{flag_of(field)}", dest=f"{section}.{field.name}", **_taking(field))
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return made


def _taking(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """What a flag takes: a switch nothing, a tuple's flag may come several times."""
    meaning = field.metadata["help"].replace("%", "%%")
    if isinstance(field.default, bool):
        return {"action": "store_true", "help": meaning}
    several, choices = isinstance(field.default, tuple), field.metadata["choices"] or None
    kind_of_value = str if several else type(field.default)
    return {
        "type": kind_of_value,
        "action": "append" if several else "store",
        "default": None if several else field.default,
        "choices": choices,
        "metavar": None if choices else kind_of_value.__name__.upper(),
        "help": meaning,
    }


def settings_from(values: dict[str, Any]) -> Settings:
    """Settings from parsed flags, checked."""
    sections: dict[str, Any] = {
        section: kind(**{field.name: _value(field, values[f"{section}.{field.name}"]) for field in fields(kind)})
        for section, kind in SECTIONS.items()
    }
    return Settings(**sections)


def _value(field: dataclasses.Field[Any], given: Any) -> Any:
    return tuple(given or ()) if isinstance(field.default, tuple) else given


class _Handler(logging.Handler):
    """Prints messages above a running progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stdout)
        sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns 0, 2 for what the user can mend, 130 after Ctrl-C."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        values = vars(parser().parse_args(given))
        _run(settings_from(values))
        return 0
    except KeyboardInterrupt:
        print("\nstopped; what was finished is kept, and the same command goes on from there", file=sys.stderr)
        return 130
    except Exception as error:
        if "--debug" in given:
            traceback.print_exc()
        fault = _fault(error)
        if fault is None:
            raise
        print(f"error: {fault}", file=sys.stderr)
        return 2


def _fault(error: Exception) -> UserError | None:
    """What the user can mend: our own errors, and the system's word on files."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.filename:
        return UserError(
            (error.strerror or "cannot be used").lower(), error.filename, "check the path and its permissions"
        )
    return None


def _run(settings: Settings) -> None:
    logger = logging.getLogger("distill")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_Handler())
    files = _story(settings.run.mode)(settings)
    if not files:
        return
    print("\nwritten:")
    for path in _all_files(files):
        print(f"  {path}")


def _story(mode: str) -> Callable[[Settings], list[Path]]:
    """What a mode does; imported when it is asked for, as PyTorch takes seconds that the others need not wait."""
    if mode == "predict":
        from distill.jobs import predict

        return predict
    if mode == "serve":
        from distill.service import serve

        return serve
    from distill import stages

    return stages.run


def _all_files(paths: Sequence[Path]) -> list[Path]:
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]
    return list(dict.fromkeys(files))
