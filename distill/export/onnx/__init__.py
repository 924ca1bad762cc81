"""Students and teachers as ONNX files. Only this package imports onnx and onnxruntime."""

from __future__ import annotations

from distill.export.onnx.classifier import OnnxClassifier
from distill.export.onnx.files import export_student, export_teacher

__all__ = ["OnnxClassifier", "export_student", "export_teacher"]
