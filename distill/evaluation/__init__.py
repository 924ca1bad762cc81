"""Metrics, timing and baselines."""
