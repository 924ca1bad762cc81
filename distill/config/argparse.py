"""The command line's flags, generated from the settings. Flags override the settings file."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from distill.config import MODES, SECTIONS, Settings, flag_of
from distill.config.toml import read_toml
from distill.errors import UserError

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

ABOUT = "Classify short Chinese texts: distil a fine-tuned BERT into a small, fast biLSTM."
HELP = "python distill.py --help"
PATH = "PATH"  # metavar of files and folders; shells complete it
SHELLS = ("bash", "zsh", "tcsh", "fish")


class Parser(argparse.ArgumentParser):
    """A parser that raises our one-line errors."""

    def error(self, message: str) -> NoReturn:
        """Raise argparse's message; for an unknown flag with the most similar one."""
        unknown = message.rpartition(": ")[2].partition(" ")[0] if message.startswith("unrecognized") else ""
        near = difflib.get_close_matches(unknown, self._option_string_actions, 1)
        raise UserError(message, None, f"did you mean {near[0]}?" if near else HELP)

    def print_help(self, file: SupportsWrite[str] | None = None) -> None:
        """Print the help text; argparse would ignore that it cannot be written."""
        (file or sys.stdout).write(self.format_help())


class Join(argparse.Action):
    """Join the values of a repeated flag by commas."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Add a value."""
        before = getattr(namespace, self.dest, "")
        setattr(namespace, self.dest, f"{before},{values}" if before else values)


def parser() -> Parser:
    """The parser of all flags, in one group per section; flags that are not typed are absent from the namespace."""
    arguments = Parser(
        prog="distill.py",
        usage="python distill.py [--mode MODE] [--config PATH] [flags]",
        description="\n".join([ABOUT, "", "modes:", *(f"  {name:<15}{mode.summary}" for name, mode in MODES.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    arguments.add_argument(
        "--config", metavar=PATH, help="read settings from a TOML file that uses the flags' names; flags override it"
    )
    arguments.add_argument(
        "--save_config",
        metavar=PATH,
        help="write the settings, with the numbers chosen from the data, to such a file; train nothing",
    )
    arguments.add_argument("--completion", choices=SHELLS, help="print a completion script for a shell and exit")
    arguments.add_argument("--version", action="store_true", help="print the versions of the program and its libraries")
    arguments.add_argument("--debug", action="store_true", help="show the traceback when an error occurs")
    for section, kind in SECTIONS.items():
        group = arguments.add_argument_group(section, (kind.__doc__ or "").splitlines()[0])
        for field in fields(kind):
            group.add_argument(f"--{flag_of(field)}", dest=f"{section}.{field.name}", **_arguments(field))
    return arguments


def _arguments(field: dataclasses.Field[Any]) -> dict[str, Any]:
    """Keyword arguments of ``add_argument``: a bool becomes a switch, a tuple a flag that can be repeated."""
    default, choices = field.default, tuple(field.metadata["choices"]) or None
    is_repeatable = isinstance(default, tuple)
    is_joined = field.metadata["is_joined"]
    suffix = "; can be repeated" if is_repeatable else ""
    suffix += "" if default is False or default in ("", ()) else f" (default: {default})"
    help_text = (field.metadata["help"] + suffix).replace("%", "%%")
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction, "help": help_text}
    value_type = str if is_repeatable else type(default)
    metavar = PATH if field.metadata["path"] else value_type.__name__.upper()
    return {
        "type": value_type,
        "action": "append" if is_repeatable else Join if is_joined else "store",
        "choices": choices,
        "metavar": None if choices else metavar,
        "help": help_text,
    }


def settings_from(flags: Mapping[str, Any]) -> Settings:
    """Combine parsed flags with the file of --config into settings.

    Raises:
        UserError: a value is not allowed, or the settings file is invalid.
    """
    values = {**(read_toml(Path(flags["config"])) if "config" in flags else {}), **flags}
    sections: dict[str, Any] = {section: kind(**_section_values(section, values)) for section, kind in SECTIONS.items()}
    return Settings(**sections)


def _section_values(section: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a section, by field name."""
    prefix = f"{section}."
    return {
        name.removeprefix(prefix): tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name.startswith(prefix)
    }
