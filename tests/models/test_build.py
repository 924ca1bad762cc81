"""The registry of students: every line names a class, and one more line is all that a new student needs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import output_of, titles
from torch import Tensor, nn

from distill.cli import main
from distill.config import STUDENTS
from distill.config.students import WORD_DEFAULTS, StudentKind
from distill.errors import UserError
from distill.export.bundle import export_bundle
from distill.models.build import architecture_of, student_class
from distill.models.student import SavedStudent, Student, StudentConfig
from distill.models.text_classifier import load_student
from distill.runtime import networks, schema
from distill.text.batching import Batch, masked_mean


class Toy(Student):
    """The mean of the word vectors -> linear classifier."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.classifier = nn.Linear(config.width + self.ngram_features, config.classes)

    def vector(self, batch: Batch) -> Tensor:
        return self.append_ngrams(masked_mean(self.embed(batch), batch.mask), batch)


@pytest.mark.parametrize("architecture", STUDENTS)
def test_every_line_names_the_class_of_a_saved_student(architecture: str) -> None:
    network = student_class(architecture)
    assert issubclass(network, SavedStudent)
    assert issubclass(network, Student) is not STUDENTS[architecture].transductive
    assert architecture_of(network.__new__(network)) == architecture


def test_every_student_over_words_has_a_network_and_arrays_in_the_runtime() -> None:
    over_words = {name for name, kind in STUDENTS.items() if not kind.transductive}
    assert set(networks.NETWORKS) == set(schema.NETWORK_ARRAYS) == over_words


def test_one_line_adds_a_student(tiny_flags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDENTS, "toy", StudentKind(f"{__name__}:Toy", WORD_DEFAULTS))
    flags = [*tiny_flags, "--run", str(tmp_path), "--student", "toy", "--a", "1", "--T", "0"]
    assert main([*flags, "--mode", "train_student"]) == 0
    folder = tmp_path / "student_alone"
    assert json.loads((folder / "student.json").read_text("utf-8"))["architecture"] == "toy"
    student = load_student(folder)
    assert isinstance(student.model, Toy)
    texts, labels = zip(*titles(0, 90), strict=True)
    assert np.mean(np.array(student.predict(texts)) == labels) > 0.9
    with pytest.raises(UserError, match="the runtime has no network for Toy"):
        export_bundle(folder, tmp_path / "bundle")
    monkeypatch.setattr(Toy, "bundle_network", lambda self: ({}, {}))
    with pytest.raises(UserError, match="unknown network 'toy', one of bilstm, textcnn, average is needed"):
        export_bundle(folder, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_an_unknown_student_is_refused(tiny_flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert "invalid choice: 'toy'" in output_of(capsys, [*tiny_flags, "--student", "toy"], 2)
