"""Trained models as others use them: bundles, ONNX files, model cards, the Hub."""
