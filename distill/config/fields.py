"""Fields of the settings: each has a help text and allowed values, which are checked on construction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from distill.errors import UserError, join_problems

FROM_DATA = -1  # stands for a number that is chosen later, from the data


def option(
    default: Any,
    help_text: str,
    *,
    flag: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    choices: Collection[str] = (),
    path: bool = False,
    is_joined: bool = False,
) -> Any:
    """Define a settings field.

    Args:
        default: a tuple if the flag can be repeated; ``FROM_DATA`` if the number is chosen from the data, which is then
            allowed in addition to the range.
        help_text: a sentence for ``--help``, docs/reference.md and settings files.
        flag: name of the flag; default: the field's name.
        low: smallest allowed number.
        high: largest allowed number.
        choices: allowed strings.
        path: whether the value is a file or folder, which a shell can complete.
        is_joined: whether the flag can be repeated; its values are then joined by commas.
    """
    if default == FROM_DATA:
        help_text += f"; {FROM_DATA}: chosen automatically"
    allowed = {"low": low, "high": high, "choices": choices, "path": path, "is_joined": is_joined}
    return dataclasses.field(default=default, metadata={"help": help_text, "flag": flag, **allowed})


@dataclass(frozen=True)
class Checked:
    """A base class that checks every field on construction and reports all invalid values at once."""

    def __post_init__(self) -> None:
        errors = []
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            low, high = field.metadata["low"], field.metadata["high"]
            is_automatic = field.default == FROM_DATA == value
            if isinstance(value, int | float) and not is_automatic and not low <= value <= high:  # also true of NaN
                errors.append(f"--{flag_of(field)} is {value}, must be {_range(low, high)}")
            if choices and value not in choices:
                errors.append(f"--{flag_of(field)} is {value!r}, must be one of {', '.join(choices)}")
            if _is_invalid_text(value):
                errors.append(f"--{flag_of(field)} is {value!r}, must be UTF-8 text without NUL characters")
        if errors:
            raise UserError(join_problems(errors), "settings", "python distill.py --help")


def _is_invalid_text(value: Any) -> bool:
    """Whether a text has characters that no file or path can have: undecodable bytes (surrogates) or NUL."""
    texts = value if isinstance(value, tuple) else (value,)
    characters = (character for text in texts if isinstance(text, str) for character in text)
    return any(character == "\0" or "\ud800" <= character <= "\udfff" for character in characters)


def _range(low: float, high: float) -> str:
    return f"at least {low:g}" if high == math.inf else f"between {low:g} and {high:g}"


def flag_of(field: dataclasses.Field[Any]) -> str:
    """A field's flag, without the dashes."""
    return str(field.metadata["flag"] or field.name)
