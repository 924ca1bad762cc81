"""The settings file: TOML, flat, with the names of the flags."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from pathlib import Path
from typing import Any

from distill.config import SECTIONS, Settings, flag_of
from distill.errors import UserError, join_faults

Field = dataclasses.Field[Any]
KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text in quotes",
    tuple: "a list of texts in quotes",
}
BITS = 1024  # of a whole number that can be meant; one of 4,300 digits Python cannot even write
LARGEST = 2**53  # whole numbers up to here are exact as floats


def _by_flag() -> dict[str, tuple[str, Field]]:
    """Every setting by its flag: its section and its field."""
    return {
        flag_of(field): (section, field) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)
    }


def read(path: Path) -> dict[str, Any]:
    """The values in a settings file, by ``SECTION.FIELD``; ranges are checked where settings are made.

    Raises:
        UserError: it is no TOML, or names what is no setting, or a value is of another kind.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of TOML and of UTF-8; lists in lists in lists
        raise UserError(f"this is no TOML: {error}", path, "lines such as student_epochs = 8") from error
    settings = _by_flag()
    faults = [
        f"line {_line_of(name, text)}: {fault}"
        for name, value in given.items()
        if (fault := _fault(name, value, settings))
    ]
    if faults:
        raise UserError(
            join_faults(faults), path, "the names are those of python distill.py --help, without the dashes"
        )
    return {
        f"{section}.{field.name}": _as(field, given[name])
        for name, (section, field) in settings.items()
        if name in given
    }


def _fault(name: str, value: Any, settings: dict[str, tuple[str, Field]]) -> str:
    """What is wrong with a line; empty where nothing is."""
    if isinstance(value, dict):
        return f"{name!r} begins a table; write names alone, without tables and dots"
    if name not in settings:
        near = difflib.get_close_matches(name, settings, 1)
        return f"{name!r} is no setting" + (f", did you mean {near[0]}?" if near else "")
    if isinstance(value, int) and value.bit_length() > BITS:
        return f"{name} is too large"
    _, field = settings[name]
    return "" if _as(field, value) is not None else f"{name} is {value!r}, {KINDS[type(field.default)]} is needed"


def _as(field: Field, value: Any) -> Any:
    """A value of a file as the field's kind; None where it is of another."""
    kind = type(field.default)
    if kind is tuple:
        return tuple(value) if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
    if kind is float and type(value) is int and abs(value) <= LARGEST:
        return float(value)
    return value if type(value) is kind else None


def _line_of(name: str, text: str) -> int:
    """Where a name stands first at the beginning of a line."""
    begins = re.compile(rf"[\s\[\"']*{re.escape(name)}\b")
    return next((number for number, line in enumerate(text.split("\n"), 1) if begins.match(line)), 1)


def text_of(settings: Settings) -> str:
    """The file of what differs from the defaults, each with its sentence above; :func:`read` gives it back."""
    lines = ["# Settings of distill; use them with: python distill.py --config FILE"]
    for flag, (section, field) in _by_flag().items():
        value = getattr(getattr(settings, section), field.name)
        if value != field.default:
            lines += ["", f"# {field.metadata['help']}", f"{flag} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML: just as in JSON, but for one character that JSON leaves as it is."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
