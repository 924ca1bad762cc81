"""The settings file: flat TOML that uses the flags' names."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.config import SECTIONS, Settings, flag_of
from distill.errors import UserError, join_problems

Field = dataclasses.Field[Any]
TYPE_NAMES = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a string in quotes",
    tuple: "a list of strings in quotes",
}
NAMES_HINT = "use the names of python distill.py --help, without the dashes"
MAX_BITS = 1024  # of an integer; Python refuses to format one of more than 4,300 digits
MAX_EXACT_INT = 2**53  # integers up to here are exact as floats


def _by_flag() -> dict[str, tuple[str, Field]]:
    """All settings: flag -> (section, field)."""
    return {
        flag_of(field): (section, field) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)
    }


def read_toml(path: Path) -> dict[str, Any]:
    """Read a settings file; returns its values by ``SECTION.FIELD``. The settings classes check their ranges.

    Raises:
        UserError: the file is not TOML, a name is unknown, or a value has the wrong type.
    """
    content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # invalid TOML or UTF-8; deeply nested lists
        raise UserError(f"invalid TOML: {error}", path, "write lines such as student_epochs = 8") from error
    values, problems = typed(given)
    if problems:
        lines = [f"line {_line_of(name, text)}: {problem}" for name, problem in problems.items()]
        raise UserError(join_problems(lines), path, NAMES_HINT)
    return values


def typed(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Check the names and types of settings that are given by the flags' names.

    Returns:
        The values by ``SECTION.FIELD``, and what is wrong by name, if anything is.
    """
    settings = _by_flag()
    problems = {name: problem for name, value in given.items() if (problem := _problem(name, value, settings))}
    values = {
        f"{section}.{field.name}": _converted(field, given[name])
        for name, (section, field) in settings.items()
        if name in given and name not in problems
    }
    return values, problems


def _problem(name: str, value: Any, settings: dict[str, tuple[str, Field]]) -> str:
    """The error in a line, or ""."""
    if isinstance(value, dict):
        return f"{name!r} starts a table; write plain names, without tables and dots"
    if name not in settings:
        near = difflib.get_close_matches(name, settings, 1)
        return f"unknown setting {name!r}" + (f", did you mean {near[0]}?" if near else "")
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        return f"{name} is too large"
    _, field = settings[name]
    return (
        ""
        if _converted(field, value) is not None
        else f"{name} is {value!r}, must be {TYPE_NAMES[type(field.default)]}"
    )


def _converted(field: Field, value: Any) -> Any:
    """A file's value as the field's type; None if it has another type."""
    expected = type(field.default)
    if expected is tuple:
        return tuple(value) if isinstance(value, list) and all(isinstance(text, str) for text in value) else None
    if expected is float and type(value) is int and abs(value) <= MAX_EXACT_INT:
        return float(value)
    return value if type(value) is expected else None


def _line_of(name: str, text: str) -> int:
    """The number of the first line that starts with a name."""
    pattern = re.compile(rf"[\s\[\"']*{re.escape(name)}\b")
    return next((number for number, line in enumerate(text.split("\n"), 1) if pattern.match(line)), 1)


def to_toml(settings: Settings) -> str:
    """The settings that differ from their defaults, as a settings file with a comment above each."""
    lines = ["# Settings of distill. Use them with: python distill.py --config FILE"]
    for flag, (section, field) in _by_flag().items():
        value = getattr(getattr(settings, section), field.name)
        if value != field.default:
            lines += ["", f"# {field.metadata['help']}", f"{flag} = {_toml(value)}"]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """A value in TOML, which is JSON except that TOML also escapes DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
