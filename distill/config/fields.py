"""What every settings class is made of: fields with a sentence and a range, checked on construction."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from distill.errors import UserError, join_faults

FROM_DATA = -1


def option(
    default: Any,
    meaning: str,
    *,
    flag: str = "",
    low: float = -math.inf,
    high: float = math.inf,
    choices: Collection[str] = (),
    path: bool = False,
) -> Any:
    """A settings field: its default, a sentence, its flag if not the field's name, and what values it allows.

    ``path`` says that it names a file or folder, which a shell can complete.
    A field whose default is a tuple takes its flag several times. The default ``FROM_DATA`` is allowed beside the range
    and stands for a number that is chosen later.
    """
    if default == FROM_DATA:
        meaning += f"; {FROM_DATA}: follows the network and the data"
    allowed = {"low": low, "high": high, "choices": choices, "path": path}
    return dataclasses.field(default=default, metadata={"help": meaning, "flag": flag, **allowed})


@dataclass(frozen=True)
class Checked:
    """Checks every field against what it allows on construction and names all faults at once."""

    def __post_init__(self) -> None:
        faults = []
        for field in dataclasses.fields(self):
            value, choices = getattr(self, field.name), field.metadata["choices"]
            low, high = field.metadata["low"], field.metadata["high"]
            is_open = field.default == FROM_DATA == value
            if isinstance(value, int | float) and not is_open and not low <= value <= high:  # nor is NaN
                faults.append(f"--{flag_of(field)} is {value}, {_range(low, high)} is needed")
            if choices and value not in choices:
                faults.append(f"--{flag_of(field)} is {value!r}, one of {', '.join(choices)} is needed")
            if _is_broken(value):
                faults.append(f"--{flag_of(field)} is {value!r}, text in UTF-8 without NUL is needed")
        if faults:
            raise UserError(join_faults(faults), "settings", "python distill.py --help")


def _is_broken(value: Any) -> bool:
    """Whether a text holds what no file or path can: bytes that Python could not read, or a settings file's NUL."""
    texts = value if isinstance(value, tuple) else (value,)
    signs = (sign for text in texts if isinstance(text, str) for sign in text)
    return any(sign == "\0" or "\ud800" <= sign <= "\udfff" for sign in signs)


def _range(low: float, high: float) -> str:
    return f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"


def flag_of(field: dataclasses.Field[Any]) -> str:
    """A field's flag, without the dashes."""
    return str(field.metadata["flag"] or field.name)
