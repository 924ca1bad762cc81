"""The command's flags, made from the settings; what is typed wins over the settings file."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from distill.config import MODES, SECTIONS, Settings, flag_of
from distill.config.toml import read
from distill.errors import UserError

ABOUT = "Teach a small biLSTM what a fine-tuned BERT knows about short Chinese texts."
HELP = "python distill.py --help"
PATH = "PATH"  # what stands for a file or folder in the help; shells complete it
SHELLS = ("bash", "zsh", "tcsh", "fish")


class Parser(argparse.ArgumentParser):
    """A parser whose faults are our own one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, and the nearest flag to an unknown one."""
        unknown = message.rpartition(": ")[2].partition(" ")[0] if message.startswith("unrecognized") else ""
        near = difflib.get_close_matches(unknown, self._option_string_actions, 1)
        raise UserError(message, None, f"did you mean {near[0]}?" if near else HELP)


def parser() -> Parser:
    """All flags, grouped as the settings are; a flag that is not typed leaves nothing in the namespace."""
    made = Parser(
        prog="distill.py",
        usage="python distill.py [--mode MODE] [--config PATH] [flags]",
        description="\n".join([ABOUT, "", "modes:", *(f"  {name:<15}{mode.summary}" for name, mode in MODES.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    made.add_argument("--config", metavar=PATH, help="settings from a TOML file with the flags' names; flags win")
    made.add_argument(
        "--save_config",
        metavar=PATH,
        help="write the settings and what follows from the data into such a file, train nothing",
    )
    made.add_argument("--completion", choices=SHELLS, help="print the completion of a shell, and do nothing else")
    made.add_argument("--debug", action="store_true", help="show the traceback of an error")
    for section, kind in SECTIONS.items():
        group = made.add_argument_group(section, (kind.__doc__ or "").splitlines()[0])
        for field in fields(kind):
            group.add_argument(f"--{flag_of(field)}", dest=f"{section}.{field.name}", **_taking(field))
    return made


def _taking(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """What a flag takes: a switch nothing, a tuple's flag may come several times."""
    default, choices = field.default, field.metadata["choices"] or None
    shown = "" if default is False or default in ("", ()) else f" (default: {default})"
    meaning = (field.metadata["help"] + shown).replace("%", "%%")
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction, "help": meaning}
    several = isinstance(default, tuple)
    kind_of_value = str if several else type(default)
    stands_for = PATH if field.metadata["path"] else kind_of_value.__name__.upper()
    return {
        "type": kind_of_value,
        "action": "append" if several else "store",
        "choices": choices,
        "metavar": None if choices else stands_for,
        "help": meaning,
    }


def settings_from(typed: Mapping[str, Any]) -> Settings:
    """Settings from parsed flags and the file of --config, checked.

    Raises:
        UserError: a value is not allowed, or the file holds what is no setting.
    """
    given = {**(read(Path(typed["config"])) if "config" in typed else {}), **typed}
    sections: dict[str, Any] = {section: kind(**_of(section, given)) for section, kind in SECTIONS.items()}
    return Settings(**sections)


def _of(section: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a section that were given."""
    prefix = f"{section}."
    return {
        name.removeprefix(prefix): tuple(value) if isinstance(value, list) else value
        for name, value in given.items()
        if name.startswith(prefix)
    }
