"""Chinese short-text classification by distillation: BERT teacher, word-vector biLSTM student."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load_student", "load_teacher"]

if TYPE_CHECKING:
    from distill.models.text_classifier import load_student, load_teacher


def __getattr__(name: str) -> Any:
    """Import the library's functions on first use, so that ``--help`` does not wait for PyTorch."""
    if name in __all__:
        from distill.models import text_classifier

        return getattr(text_classifier, name)
    raise AttributeError(f"module 'distill' has no attribute {name!r}")
