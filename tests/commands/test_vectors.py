"""--vectors: what is said about the chosen word vectors, random ones, and files that cannot help."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import output_of, write_vectors
from gensim.models import KeyedVectors
from safetensors.torch import load_file

from distill.config import StudentSettings
from distill.data import Dataset, Example
from distill.training import defaults

FLAGS = "--mode train_student --a 1 --T 0 --student average --student_hidden 4 --ngrams 16 --student_epochs 1 --run"


@pytest.fixture
def flags(tmp_path: Path, title_folder: Path) -> list[str]:
    return [*FLAGS.split(), str(tmp_path / "run"), "--data", str(title_folder), "--vectors"]


def weights(tmp_path: Path) -> np.ndarray:
    tensors = load_file(tmp_path / "run/student_alone/student.safetensors")
    assert all(tensor.isfinite().all() for tensor in tensors.values() if tensor.is_floating_point())
    return tensors["embedding.weight"].numpy()


@pytest.mark.parametrize("choice", ["none", "teacher+none"])
def test_random_vectors(choice: str, flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output_of(capsys, [*flags, choice])
    assert "in the vocabulary, each with a random vector of 100 numbers" in text and "word vectors:" not in text
    assert weights(tmp_path).shape[1] == 100
    assert "kept, it was trained with the same data and settings" in output_of(capsys, [*flags, "none"])


def test_a_file_with_unusable_rows(
    flags: list[str], toy_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = toy_vectors.read_text("utf-8").splitlines()
    lines[3] = lines[3].split()[0] + " nan" * 8
    (tmp_path / "v.txt").write_text("\n".join(lines), "utf-8")
    text = output_of(capsys, [*flags, str(tmp_path / "v.txt")])
    assert f"v.txt: 1 of {len(lines) - 1} rows cannot be used and were left out: line 4" in text
    assert "tokens: " in text and weights(tmp_path).shape[1] == 8


@pytest.mark.parametrize("words", [["hello", "world"], []])
def test_vectors_that_no_word_has(
    words: list[str], flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_vectors(tmp_path / "english.txt", words, 8)
    text = output_of(capsys, [*flags, str(path)], code=2)
    assert "english.txt: none of the" in text and "--vectors none, which trains without pretrained vectors" in text
    assert not (tmp_path / "run/student_alone").exists()


def test_few_tokens_with_a_vector_are_a_reminder(
    flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_vectors(tmp_path / "few.txt", ["球队", "没有"], 8)
    assert f"\nwarning: {path}: only " in output_of(capsys, [*flags, str(path)])


def test_gensims_own_file(
    flags: list[str], toy_vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The student is the same as with the text file; another array next to the file is another file of vectors."""
    output_of(capsys, [*flags, str(toy_vectors)])
    expected = weights(tmp_path)
    vectors, path = KeyedVectors.load_word2vec_format(str(toy_vectors)), tmp_path / "v.kv"
    vectors.save(str(path), separately=["vectors"])
    assert "trained again, word vectors changed" in output_of(capsys, [*flags, str(path)])
    assert np.array_equal(weights(tmp_path), expected)
    np.save(tmp_path / "v.kv.vectors.npy", -vectors.vectors)
    assert "trained again, word vectors changed" in output_of(capsys, [*flags, str(path)])


class Hostile:
    def __reduce__(self) -> object:
        return os.system, ("exit",)


def test_a_pickle_that_would_run_code(flags: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "v.kv").write_bytes(pickle.dumps(Hostile()))
    text = output_of(capsys, [*flags, str(tmp_path / "v.kv")], code=2)
    assert f"error: {tmp_path}/v.kv: this pickle contains {os.name}.system; only gensim's KeyedVectors are read" in text


@pytest.mark.parametrize(
    ("choice", "alone", "with_teacher"),
    [
        ("auto", "auto", "teacher+auto"),
        ("none", "none", "none"),
        ("teacher+none", "none", "teacher+none"),
        ("teacher", "auto", "teacher"),
    ],
)
def test_the_choice_of_vectors_with_and_without_a_teacher(choice: str, alone: str, with_teacher: str) -> None:
    examples = tuple(Example(number, "字", number % 2) for number in range(9))
    dataset = Dataset(examples, examples[:1], examples[:1], ("甲", "乙"), {})
    for has_teacher, expected in ((False, alone), (True, with_teacher)):
        settings = StudentSettings(vectors=choice)
        assert defaults.student_settings(settings, dataset, has_teacher=has_teacher).vectors == expected
