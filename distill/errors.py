"""What a person did wrong, said in one line: what, where, and what to type next."""

from collections.abc import Iterable
from importlib.util import find_spec


class UserError(Exception):
    """A fault in what the user handed in; the command line prints it without a traceback.

    Args:
        what: what is wrong, and what is there instead.
        where: the file (and line) or the flag it was found in.
        hint: what to type or change next.
    """

    def __init__(self, what: str, where: object = None, hint: str = "") -> None:
        self.what = what
        self.where = "" if where is None else str(where)
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f" -> {self.hint}" if self.hint else ""
        return f"{where}{self.what}{hint}"


def require_package(package: str, asked: str, hint: str, where: object = None) -> None:
    """Refuse what was asked for before any of it is done, where its package is not installed.

    Raises:
        UserError: there is no such package.
    """
    if find_spec(package) is None:
        raise UserError(f"{asked} needs the package {package}", where, hint)


def require_texts(texts: Iterable[object]) -> None:
    """Refuse one text, which would be read as a list of its characters, and whatever is no text.

    Raises:
        UserError: ``texts`` is not a list of strings.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UserError("texts must be a list of strings", None, 'predict(["…", "…"])')


def join_faults(faults: list[str], most: int = 5) -> str:
    """Several faults on one line: the first few, and how many more there are."""
    shown = "; ".join(faults[:most])
    more = len(faults) - most
    return f"{shown}; and {more} more like it" if more > 0 else shown


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for want of space (Rust libraries only say so in their text)."""
    text = str(error)
    return getattr(error, "errno", None) in (28, 122) or "os error 28" in text
