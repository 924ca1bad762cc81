"""Models of earlier versions load and predict as they did; tests/fixtures was written by commit 0fdc662."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from distill import load_student
from distill.runtime import load

FIXTURES = Path(__file__).parent / "fixtures"
EXPECTED: dict[str, Any] = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))


def test_an_older_bundle() -> None:
    bundle = load(FIXTURES / "bundle")
    assert bundle.predict(EXPECTED["texts"]) == EXPECTED["bundle"]
    assert np.allclose(bundle.predict_proba(EXPECTED["texts"]), EXPECTED["bundle_probabilities"], atol=1e-3)


def test_an_older_student() -> None:
    student = load_student(FIXTURES / "student")
    assert student.predict(EXPECTED["texts"]) == EXPECTED["student"]
    assert np.allclose(student.predict_proba(EXPECTED["texts"]), EXPECTED["student_probabilities"], atol=1e-3)
