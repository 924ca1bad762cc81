"""gensim's own files are read without running what they contain."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gensim.models import FastText, KeyedVectors, Word2Vec
from gensim.models.keyedvectors import CompatVocab

from distill.errors import UserError
from distill.text.gensim_pickle import STAND_INS
from distill.text.word_vectors import VectorReader, load_vectors

WORDS = ["北京", "a b", "\u3000", "，"]
ROWS = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
NAMES = ["vectors.kv", "vectors.bin", "vectors.kv.gz", "vectors.kv.bz2"]


def keyed_vectors() -> KeyedVectors:
    vectors = KeyedVectors(ROWS.shape[1])
    vectors.add_vectors(WORDS, ROWS)
    vectors.set_vecattr("北京", "count", 7)
    return vectors


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("separately", [None, ["vectors"]])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_keyed_vectors(name: str, separately: list[str] | None, protocol: int, tmp_path: Path) -> None:
    path = tmp_path / name
    keyed_vectors().save(str(path), separately=separately, pickle_protocol=protocol)
    assert len(list(tmp_path.iterdir())) == (2 if separately else 1)
    vectors = load_vectors(path, ["，", "北京", "没有", "\u3000", "a b"])
    assert vectors.index_to_key == WORDS and np.array_equal(vectors.vectors, ROWS)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floating_point_numbers(dtype: Any, tmp_path: Path) -> None:
    vectors, rows = keyed_vectors(), np.asfortranarray(ROWS.astype(dtype))
    vectors.vectors = rows
    (tmp_path / "v.kv").write_bytes(pickle.dumps(vectors, 4))
    assert np.array_equal(load_vectors(tmp_path / "v.kv", WORDS).vectors, rows.astype(np.float32))


def test_the_attributes_of_gensim_3(tmp_path: Path) -> None:
    old = KeyedVectors.__new__(KeyedVectors)
    vocab = {word: CompatVocab(index=index, count=1) for index, word in enumerate(WORDS)}
    old.__dict__.update(vocab=vocab, index2word=WORDS, syn0=ROWS, vector_size=6)
    (tmp_path / "v.kv").write_bytes(pickle.dumps(old, 2))
    assert np.array_equal(load_vectors(tmp_path / "v.kv", WORDS).vectors, ROWS)


def test_unusable_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = np.tile(ROWS.astype(np.float64), (3, 1))
    vectors = KeyedVectors(6, dtype=np.float64)
    vectors.add_vectors([f"{word}{index}" for index in range(3) for word in WORDS], rows)
    vectors.vectors[2, 3] = 1e300  # infinite as float32
    vectors.save(str(tmp_path / "v.kv"))
    assert load_vectors(tmp_path / "v.kv", ["北京0", "\u30000"]).index_to_key == ["北京0"]
    assert "v.kv: 1 of 12 rows cannot be used and were left out: row 3" in caplog.text


def test_whole_models(tmp_path: Path) -> None:
    """The vectors of fastText are not in the file: gensim computes them from n-grams."""
    settings: dict[str, Any] = {"vector_size": 4, "min_count": 1, "epochs": 1, "workers": 1, "seed": 1}
    Word2Vec([["北京", "上海"]], **settings).save(str(tmp_path / "model"))
    FastText([["北京", "上海"]], bucket=10, **settings).wv.save(str(tmp_path / "fasttext"))
    for name, kind in (("model", "word2vec.Word2Vec"), ("fasttext", "fasttext.FastTextKeyedVectors")):
        with pytest.raises(UserError, match=rf"contains gensim\.models\.{kind}; .*for a whole model model\.wv"):
            load_vectors(tmp_path / name, ["北京"])


class Hostile:
    """Runs a command when it is unpickled by an ordinary unpickler."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    ("call", "name"), [(os.system, f"{os.name}.system"), (eval, "eval"), (os.path.join, "join"), (np.load, "load")]
)
@pytest.mark.parametrize("is_nested", [False, True])
def test_a_hostile_pickle_is_refused_by_name(
    call: Any, name: str, is_nested: bool, protocol: int, tmp_path: Path
) -> None:
    path, hostile = tmp_path / "v.kv", Hostile(call, f"touch {tmp_path}/ran")
    content: Any = hostile
    if is_nested:
        content = keyed_vectors()
        content.lifecycle_events = [hostile]
    path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UserError, match=rf"this pickle contains [\w.]*{name}; .*it may run code of its own"):
        load_vectors(path, WORDS)
    assert not (tmp_path / "ran").exists()


def test_the_unpickler_imports_nothing() -> None:
    assert {getattr(stand_in, "__module__", None) for stand_in in STAND_INS.values()} == {"distill.text.gensim_pickle"}


@pytest.mark.parametrize("content", [{"北京": ROWS}, ["北京"], 7, np.float64(1), ROWS])
def test_other_pickles(content: Any, tmp_path: Path) -> None:
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(content, 4))
    with pytest.raises(UserError, match="KeyedVectors"):
        load_vectors(tmp_path / "v.pkl", ["北京"])


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "v.kv"
    keyed_vectors().save(str(path))
    whole = path.read_bytes()
    for length in range(2, len(whole) - 1, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match="KeyedVectors"):
            load_vectors(path, WORDS)


def test_a_word_without_a_vector(tmp_path: Path) -> None:
    vectors = keyed_vectors()
    vectors.vectors = ROWS[:3]
    vectors.save(str(tmp_path / "v.kv"))
    with pytest.raises(UserError, match="without a list of words and one vector per word"):
        load_vectors(tmp_path / "v.kv", WORDS)


def test_a_compressed_array_next_to_the_file(tmp_path: Path) -> None:
    path, array = tmp_path / "v.kv.gz", tmp_path / "v.kv.gz.vectors.npz"
    keyed_vectors().save(str(path), separately=["vectors"])
    array.write_bytes(array.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"v\.kv\.gz: this is a pickle, but not"):
        load_vectors(path, WORDS)
    hostile = np.array([Hostile(os.system, f"touch {tmp_path}/ran")], dtype=object)
    np.savez(array, val=hostile)
    with pytest.raises(UserError, match=r"allow_pickle=False"):
        load_vectors(path, WORDS)
    assert not (tmp_path / "ran").exists()


def test_an_array_next_to_the_file(tmp_path: Path) -> None:
    """It counts for the fingerprint, and it may be missing, damaged or a pickle itself."""
    path, array = tmp_path / "v.kv", tmp_path / "v.kv.vectors.npy"
    keyed_vectors().save(str(path), separately=["vectors"])
    before = VectorReader(path).fingerprint
    np.save(array, ROWS + 1)
    assert VectorReader(path).fingerprint != before
    array.write_bytes(array.read_bytes()[:-3])
    with pytest.raises(UserError, match=r"v\.kv"):
        load_vectors(path, WORDS)
    np.save(array, np.array([Hostile(os.system, f"touch {tmp_path}/ran")], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"v\.kv"):
        load_vectors(path, WORDS)
    array.unlink()
    with pytest.raises(UserError, match=r"v\.kv\.vectors\.npy: no such file"):
        load_vectors(path, WORDS)
    assert not (tmp_path / "ran").exists()
    shutil.copy(path, tmp_path / "alone.kv")
    assert VectorReader(tmp_path / "alone.kv").fingerprint != before


def test_a_compressed_array_that_unpacks_to_much_more_is_refused(tmp_path: Path) -> None:
    keyed_vectors().save(str(tmp_path / "v.kv.gz"), separately=["vectors"])
    (array,) = tmp_path.glob("*.npz")
    np.savez_compressed(array, val=np.zeros((4, 10**6), np.float32))
    with pytest.raises(UserError, match="is larger than 100 times what its file holds"):
        load_vectors(tmp_path / "v.kv.gz", WORDS)


def test_a_length_that_the_file_does_not_have(tmp_path: Path) -> None:
    """Eight bytes that announce 4 million terabytes."""
    (tmp_path / "v.kv").write_bytes(pickle.PROTO + b"\4" + pickle.BINBYTES8 + (2**62).to_bytes(8, "little") + b"a" * 9)
    with pytest.raises(UserError, match="this is a pickle, but not of gensim"):
        load_vectors(tmp_path / "v.kv", WORDS)


def test_mutated_files(tmp_path: Path) -> None:
    """A one-line error, or vectors."""
    sound = pickle.dumps(keyed_vectors(), 4)
    rng = random.Random(0)
    for _ in range(300):
        place = rng.randrange(len(sound))
        content = bytearray(sound)
        content[place : place + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        (tmp_path / "v.kv").write_bytes(content)
        with contextlib.suppress(UserError):
            load_vectors(tmp_path / "v.kv", WORDS)


def test_a_number_in_a_pickle_allocates_nothing(tmp_path: Path) -> None:
    """The opcode that stores an object under a number, here 2^24."""
    content = pickle.PROTO + b"\4" + pickle.NONE + pickle.LONG_BINPUT + (2**24).to_bytes(4, "little") + pickle.STOP
    (tmp_path / "v.kv").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError, match="this is a pickle, but not of gensim"):
        load_vectors(tmp_path / "v.kv", WORDS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23
