"""Word vectors: the same rows as gensim reads, but streamed; how many words they cover."""

from __future__ import annotations

import bz2
import gzip
import logging
from collections.abc import Collection
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_vectors
from gensim.models import KeyedVectors

from distill import progress
from distill.errors import UserError
from distill.text import word_vectors
from distill.text.word_vectors import (
    VectorReader,
    check_coverage,
    embedding_matrix,
    find_vectors,
    load_vectors,
    no_vectors,
)

WORDS = ["的", "北京", "人工 智能".replace(" ", ""), "ｉ", "中国", "，"]


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    return write_vectors(tmp_path / "v.txt", WORDS, 5)


@pytest.fixture
def binary_file(text_file: Path) -> Path:
    path = text_file.with_suffix(".bin")
    KeyedVectors.load_word2vec_format(str(text_file)).save_word2vec_format(str(path), binary=True)
    return path


def compressed(path: Path, suffix: str) -> Path:
    target = path.with_name(path.name + suffix)
    target.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress}.get(suffix, bytes)(path.read_bytes()))
    return target


@pytest.mark.parametrize("suffix", ["", ".gz", ".bz2"])
@pytest.mark.parametrize("kind", ["text_file", "binary_file"])
@pytest.mark.parametrize("chunk", [1 << 22, 7])
def test_rows_equal_gensims(
    kind: str, suffix: str, chunk: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_vectors, "CHUNK", max(chunk, 64 if kind == "text_file" else 7))
    path: Path = request.getfixturevalue(kind)
    reference = KeyedVectors.load_word2vec_format(str(path), binary=kind == "binary_file")
    vectors = load_vectors(compressed(path, suffix) if suffix else path, ["北京", "，", "没有的词"])
    assert sorted(vectors.key_to_index) == sorted(["北京", "，"])
    for word in vectors.key_to_index:
        assert np.array_equal(vectors[word], reference[word])


def test_a_file_is_read_once_for_several_vocabularies(text_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def load_and_count(path: Path, vocabulary: Collection[str]) -> KeyedVectors:
        sizes.append(len(vocabulary))
        return load_vectors(path, vocabulary)

    monkeypatch.setattr(word_vectors, "load_vectors", load_and_count)
    reader = VectorReader(text_file)
    for vocabulary in (["，", "的"], ["的"], ["没有的词"], [], WORDS, ["中国", "的"]):
        expected, vectors = load_vectors(text_file, vocabulary), reader.read(vocabulary)
        assert vectors.index_to_key == expected.index_to_key
        assert np.array_equal(vectors.vectors, expected.vectors)
    assert sizes == [2, 3, 7]  # it is read again only for new words, and then for all


def test_files_like_sgns_wiki_word(tmp_path: Path) -> None:
    """Rows end with a space, as in sgns.wiki.word, and a word may come twice."""
    path = tmp_path / "sgns.wiki.word"
    path.write_text("3 2 \n，  0.5 1.5 \n的 1 2 \n的 3 4 \n".replace("，  ", "， "), "utf-8")
    vectors = load_vectors(path, ["的", "，"])
    assert vectors["的"].tolist() == [1, 2] and vectors["，"].tolist() == [0.5, 1.5]


def test_an_incomplete_binary_or_compressed_file(binary_file: Path, text_file: Path) -> None:
    binary_file.write_bytes(binary_file.read_bytes()[:-9])
    with pytest.raises(UserError, match="cut short, within a row"):
        load_vectors(binary_file, WORDS)
    gz = compressed(text_file, ".gz")
    gz.write_bytes(gz.read_bytes()[:-20])
    with pytest.raises(UserError, match="cut short"):
        load_vectors(gz, WORDS)


def test_matrix_of_words_without_vectors(tmp_path: Path) -> None:
    path = tmp_path / "v.txt"
    path.write_text("3 2\n北 1 2\n京 3 4\n北京 9 9\n", "utf-8")
    words = ("<pad>", "<unk>", "北京", "京北", "海")
    rows = embedding_matrix(load_vectors(path, (*words, "北", "京")), words, seed=0)
    assert rows[0].tolist() == [0, 0] and rows[2].tolist() == [9, 9] and rows[3].tolist() == [2, 3]
    assert np.array_equal(rows, embedding_matrix(load_vectors(path, (*words, "北", "京")), words, seed=0))
    assert not np.array_equal(rows[4], embedding_matrix(load_vectors(path, words), words, seed=1)[4])


def test_random_vectors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows = embedding_matrix(no_vectors(3), ("<pad>", "<unk>", "北京"), seed=0)
    assert rows.shape == (3, 100) and not rows[0].any() and 0.05 < rows[1:].std() < 0.2
    assert caplog.messages == ["words: 3 in the vocabulary, each with a random vector of 100 numbers"]


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_the_matrix_has_finite_numbers_only(value: float) -> None:
    vectors = KeyedVectors(2)
    vectors.add_vectors(["北", "京", "海"], np.array([[value, 1], [value, 2], [2, -value]], np.float32))
    with pytest.raises(UserError, match=r"--vectors: the first vectors of 1 words contain nan or inf: '北京'; .*large"):
        embedding_matrix(vectors, ("<pad>", "北京"), seed=0)


TOKENS = {"北京": 6, "京": 1, "北方": 1, "南": 2}
COVERAGE = {  # words with a vector -> share of TOKENS that have one, and that get one from characters
    ("北京", "京"): (70.0, 0.0),
    ("北",): (0.0, 70.0),
    ("北方", "没有", "南"): (30.0, 0.0),
    ("南",): (20.0, 0.0),
    ("方",): (0.0, 10.0),
}


@pytest.mark.parametrize("words", COVERAGE)
def test_coverage(words: tuple[str, ...], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "reminders", {})
    caplog.set_level(logging.INFO)
    vectors, vocabulary = KeyedVectors(2), (*TOKENS, "方", "北")
    vectors.add_vectors(list(words), np.ones((len(words), 2), np.float32))
    check_coverage(vectors, vocabulary, TOKENS, Path("v.txt"))
    own, from_characters = COVERAGE[words]
    found = len({*words} & {*vocabulary})
    assert f"words: 6 in the vocabulary, {found} of them with a vector ({100 * found / 6:.1f} %)" in caplog.text
    assert f"tokens: {own} % with a vector, {from_characters} % from their characters" in caplog.text
    few = f"v.txt: only {own} % of the tokens of the train texts have a vector, and {from_characters} % get the mean"
    assert (few in caplog.text) == (own < 30) == bool(caplog.records[1:])


def test_no_coverage_is_an_error() -> None:
    vectors = KeyedVectors(2)
    vectors.add_vectors(["没有"], np.ones((1, 2), np.float32))
    with pytest.raises(UserError, match=r"none of the 4 words of the texts has a vector.*--vectors none"):
        check_coverage(vectors, tuple(TOKENS), TOKENS, Path("v.txt"))
    vectors = KeyedVectors(2)
    vectors.add_vectors(["北京", "京"], np.zeros((2, 2), np.float32))
    with pytest.raises(UserError, match=r"every number is zero in the vectors of all 2 words.*--vectors none"):
        check_coverage(vectors, tuple(TOKENS), TOKENS, Path("v.txt"))


def test_find_vectors(tmp_path: Path, text_file: Path) -> None:
    folder = tmp_path / "embeddings"
    folder.mkdir()
    (folder / "README.md").write_text("formats")
    assert "embeddings/ has none" in find_vectors("auto", folder).reason.replace(str(tmp_path) + "/", "")
    mine = write_vectors(folder / "mine.txt", WORDS, 4)
    assert find_vectors("auto", folder).path == mine
    assert find_vectors("bundled", folder).path.name == "words.vector"
    assert find_vectors(str(text_file), folder).path == text_file
    (folder / "mine.txt.vectors.npy").touch()  # an array that belongs to gensim's mine.txt
    assert find_vectors("auto", folder).path == mine
    write_vectors(folder / "more.txt", WORDS, 4)
    with pytest.raises(UserError, match=r"several files of word vectors: mine\.txt, more\.txt"):
        find_vectors("auto", folder)
    with pytest.raises(UserError, match="no such file of word vectors"):
        find_vectors("nowhere.bin", folder)


@pytest.mark.parametrize("is_installed", [False, True])
def test_without_the_bundled_vectors(is_installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package may be missing, or of a later version, which downloads its vectors."""
    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)]) if is_installed else None
    monkeypatch.setattr(word_vectors, "find_spec", lambda name: spec)
    with pytest.raises(UserError, match=r"the bundled vectors are those of the package synonyms 3\.10") as error:
        find_vectors("bundled")
    assert error.value.hint == "pip install synonyms==3.10.2"


def test_the_bundled_vectors() -> None:
    vectors = load_vectors(find_vectors("bundled").path, ["中国", "手机", "没有这样的词吧"])
    assert sorted(vectors.key_to_index) == ["中国", "手机"] and vectors.vector_size == 100
