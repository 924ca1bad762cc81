"""The bundle as a service: one text or many in, labels out, and a page to try it."""

from __future__ import annotations

from pathlib import Path

from distill.config import Settings


def serve(settings: Settings) -> list[Path]:
    """Listen until told to stop; writes nothing."""
    raise NotImplementedError
