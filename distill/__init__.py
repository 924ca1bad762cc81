"""Chinese short-text classification by distillation: BERT teacher, word-vector biLSTM student."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["load_student", "load_teacher"]

if TYPE_CHECKING:
    from distill.models.predictor import load_student, load_teacher


def __getattr__(name: str) -> Any:
    """Load the library's functions when they are asked for: PyTorch takes a second that ``--help`` need not wait."""
    if name in __all__:
        from distill.models import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module 'distill' has no attribute {name!r}")
