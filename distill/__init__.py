"""Chinese short-text classification by distillation: BERT teacher, word-vector biLSTM student."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["DistilledTextClassifier", "load_student", "load_teacher"]

if TYPE_CHECKING:
    from distill.estimator import DistilledTextClassifier
    from distill.models.text_classifier import load_student, load_teacher

MODULES = {
    "DistilledTextClassifier": "distill.estimator",
    "load_student": "distill.models.text_classifier",
    "load_teacher": "distill.models.text_classifier",
}


def __getattr__(name: str) -> Any:
    """Import what the library offers on first use, so that ``--help`` does not wait for PyTorch."""
    if name in MODULES:
        return getattr(import_module(MODULES[name]), name)
    raise AttributeError(f"module 'distill' has no attribute {name!r}")
