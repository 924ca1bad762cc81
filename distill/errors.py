"""Errors that the user can correct, and checks that raise them."""

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec

FREE_SPACE = "free some space, then run the same command again"
CHECK_DISK = "check the disk, then run the same command again"


class UserError(Exception):
    """An error in the user's input or environment; the command line prints it in one line, without a traceback.

    Args:
        what: what is wrong, and what was found instead.
        where: the file (and line), folder, flag or section that it concerns.
        hint: what to type or change next.
        found: what was found in the user's data instead; the service, which repeats no texts, leaves it out.
    """

    def __init__(self, what: str, where: object = None, hint: str = "", found: str = "") -> None:
        self.what = what
        self.found = found
        self.where = "" if where is None else str(where)
        self.hint = hint
        super().__init__(what)

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        found = f"; {self.found}" if self.found else ""
        hint = f" -> {self.hint}" if self.hint else ""
        return f"{where}{self.what}{found}{hint}"


class InputError(UserError, ValueError):
    """A wrong argument in Python: also the ValueError that scikit-learn's users expect."""


class InputTypeError(UserError, TypeError):
    """An argument of the wrong type in Python: also a TypeError."""


class DistillWarning(UserWarning):
    """What the command line prints as a warning, as a warning of Python."""


def install_hint(extra: str) -> str:
    """The commands that install an extra of pyproject.toml: of the package, and of a clone of its repository."""
    return f'pip install "distill-zh[{extra}]" (in a clone of the repository: pip install -e ".[{extra}]")'


@contextmanager
def naming_extra(feature: str, extra: str) -> Iterator[None]:
    """Turn the import error of a package that is not installed into a message that names the extra it belongs to.

    Raises:
        UserError: a package that ``feature`` needs is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "distill").partition(".")[0]
        if package == "distill":  # a bug of ours, which the user cannot fix
            raise
        raise UserError(f"{feature} needs the package {package}", None, install_hint(extra)) from error


def require_package(package: str, feature: str, hint: str, where: object = None) -> None:
    """Check that a package is installed before work on ``feature``, which needs it, begins.

    Raises:
        UserError: it is not installed.
    """
    if find_spec(package) is None:
        raise UserError(f"{feature} needs the package {package}", where, hint)


def require_texts(texts: Iterable[object]) -> None:
    """Check that ``texts`` is a list of strings; a single string would be read as a list of its characters.

    Raises:
        UserError: it is a single string, or holds something else than strings.
    """
    if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
        raise UserError("texts must be a list of strings", None, 'predict(["…", "…"])')


def join_problems(problems: list[str], limit: int = 5) -> str:
    """Join several problems into one line: the first ``limit``, and how many more there are."""
    shown = "; ".join(problems[:limit])
    hidden = len(problems) - limit
    return f"{shown}; and {hidden} more" if hidden > 0 else shown


def listed(items: Sequence[str], limit: int = 5) -> str:
    """The first ``limit`` items, and how many more there are."""
    hidden = len(items) - limit
    return ", ".join(items[:limit]) + (f" and {hidden} more" if hidden > 0 else "")


def is_disk_full(error: BaseException) -> bool:
    """Whether a write failed for lack of space or quota."""
    return error_code(error) in (errno.ENOSPC, errno.EDQUOT)


def error_code(error: BaseException) -> int | None:
    """The operating system's number of an error, if it has one; Rust libraries mention it in the error's text."""
    mentioned = re.search(r"\(os error (\d+)\)", str(error))
    return getattr(error, "errno", None) or (int(mentioned[1]) if mentioned else None)
