"""What a job reads, its inputs and the bundle, must stay the same while the job runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from distill.errors import UserError
from distill.predict.plan import file_state
from distill.runtime import Runtime
from distill.runtime.bundle import BUNDLE_CARD
from distill.storage.fingerprints import fingerprint_bytes, fingerprint_file

BEGINNING = 2**16  # bytes of an input that are compared


@dataclass(frozen=True)
class InputState:
    """What differs after an input was written to or replaced.

    ``inode`` is the number of the open file; only ``identity`` is the same after the disk was mounted again.
    """

    path: Path
    identity: dict[str, Any]
    inode: int

    @classmethod
    def of(cls, path: Path) -> Self:
        """The present state of a file."""
        with path.open("rb") as file:
            beginning = fingerprint_bytes(file.read(BEGINNING))
        identity = {"path": str(path.resolve()), **file_state(path), "beginning": beginning}
        return cls(path, identity, path.stat().st_ino)

    @property
    def has_changed(self) -> bool:
        """Whether the file differs from this state, or was removed."""
        try:
            return InputState.of(self.path) != self
        except OSError:
            return True

    def check(self) -> None:
        """Require that the file is still the same.

        Raises:
            UserError: it is not.
        """
        if self.has_changed:
            hint = "run the same command again when the file no longer changes"
            raise UserError("the input changed while it was labelled", self.path, hint)


def load_student(bundle: Path) -> tuple[Runtime, str]:
    """The student of a bundle, and the bundle's fingerprint.

    The fingerprint is that of the card, which contains the checksums of the other files.

    Raises:
        UserError: the folder is not a bundle, or it is damaged or changes.
    """
    before = fingerprint_file(bundle / BUNDLE_CARD)
    runtime = Runtime(bundle)
    if fingerprint_file(bundle / BUNDLE_CARD) != before:
        raise UserError("the bundle changed while it was read", bundle, "run the same command again")
    return runtime, before
