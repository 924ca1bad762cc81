"""gensim's own files (``KeyedVectors.save``), read without running anything that they contain.

Such a file is a pickle, and an ordinary unpickler calls whatever a pickle names. PyTorch's restricted loader does not
know protocol 4, which gensim writes. The unpickler here imports nothing: the few names that a ``KeyedVectors`` needs
stand for the classes below, which only hold data, and every other name is refused. Arrays above 10 MB are in files of
their own (``NAME.vectors.npy``), which numpy reads without pickle.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError

HINT = (
    "save it in word2vec's format: KeyedVectors.load(FILE).save_word2vec_format(NEW_FILE), for a whole model model.wv"
)
FLOATS = ("f2", "f4", "f8")
DAMAGED = (  # what reading a damaged file raises
    *(pickle.UnpicklingError, EOFError, struct.error),
    *(ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError),
    *(BadZipFile, zlib.error),
)
MAX_INFLATION = 100  # times the size of a compressed array in its file; floating-point numbers hardly shrink


class _Attributes:
    """Stands for an object of gensim's: its attributes without its methods."""

    def __init__(self, *_: object) -> None:
        """Sets are created with arguments, which are not needed."""


class _ArrayType:
    """Stands for a numpy dtype."""

    def __init__(self, code: str, *_: object) -> None:
        self.code, self.byte_order = code, "<"

    def __setstate__(self, state: Sequence[Any]) -> None:
        self.byte_order = state[1]


class _Array:
    """Stands for a numpy array; ``numbers`` is None unless they are floating-point numbers."""

    numbers: NDArray[np.floating[Any]] | None = None

    def __init__(self, *_: object) -> None:
        """The arguments describe an empty array, which ``__setstate__`` fills."""

    def __setstate__(self, state: Sequence[Any]) -> None:
        _, shape, array_type, is_fortran, raw = state
        if array_type.code in FLOATS:
            numbers = np.frombuffer(raw, np.dtype(array_type.code).newbyteorder(array_type.byte_order))
            self.numbers = numbers.reshape(shape, order="F" if is_fortran else "C")


def _array_of_buffer(raw: bytes, array_type: _ArrayType, shape: tuple[int, ...], order: str) -> _Array:
    """Stands for the function that restores an array in protocol 5."""
    array = _Array()
    array.__setstate__((1, shape, array_type, order == "F", raw))
    return array


def _latin1(text: str, *_: object) -> bytes:
    """Stands for ``_codecs.encode``, which writes bytes in protocol 2."""
    return text.encode("latin-1")


CLASSES = {  # of which only the attributes are read; fastText's have no vectors, only n-grams
    "gensim.models.keyedvectors": (
        *("KeyedVectors", "Word2VecKeyedVectors", "EuclideanKeyedVectors"),
        *("Vocab", "CompatVocab"),
    ),
    "gensim.models.word2vec": ("Vocab",),
    **dict.fromkeys(("builtins", "__builtin__"), ("frozenset", "set")),  # protocols 3 and 2
}
STAND_INS: dict[str, Any] = {
    **{f"{module}.{name}": _Attributes for module, names in CLASSES.items() for name in names},
    "numpy.ndarray": _Array,
    "numpy.dtype": _ArrayType,
    "_codecs.encode": _latin1,
}
for package in ("numpy.core", "numpy._core"):  # before and since numpy 2
    STAND_INS |= {
        f"{package}.multiarray._reconstruct": _Array,
        f"{package}.multiarray.scalar": _Array,
        f"{package}.numeric._frombuffer": _array_of_buffer,
    }


class _ForbiddenNameError(Exception):
    """A pickle names something that a ``KeyedVectors`` does not need."""


class _RestrictedUnpickler(pickle._Unpickler):
    """Finds only the stand-ins, so that nothing is imported and nothing else is called.

    The base class is the one in Python. The one in C stores an object of a pickle under any number that the pickle says
    in a table of that length: five bytes allocate 64 GB.
    """

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a global name."""
        if f"{module}.{name}" not in STAND_INS:
            raise _ForbiddenNameError(f"{module}.{name}")
        return STAND_INS[f"{module}.{name}"]


def is_pickle(start: bytes) -> bool:
    """Whether a file that begins with ``start`` is a pickle (of protocol 2 or later)."""
    return start[:1] == pickle.PROTO and start[1:2] in (b"\2", b"\3", b"\4", b"\5")


def array_files(path: Path) -> list[Path]:
    """The files next to ``path`` that hold its large arrays."""
    return sorted(file for suffix in ("npy", "npz") for file in path.parent.glob(f"{path.name}.*.{suffix}"))


def read_keyed_vectors(file: BinaryIO, path: Path) -> tuple[list[str], NDArray[np.floating[Any]]]:
    """The words and their vectors, shape (words, width); a separate array is mapped into memory, not read.

    Raises:
        UserError: the file is damaged, names anything but the parts of a ``KeyedVectors``, or lacks its vectors.
    """
    try:
        content = vars(_RestrictedUnpickler(file).load())
        words = content.get("index_to_key") or content.get("index2word") or content.get("index2entity")
        vectors = _vectors(content, path)
    except _ForbiddenNameError as error:
        hint = (
            HINT if str(error).startswith("gensim.") else "it may run code of its own: do not load it with any program"
        )
        raise UserError(f"this pickle contains {error}; only gensim's KeyedVectors are read", path, hint) from error
    except DAMAGED as error:
        raise UserError(f"this is a pickle, but not of gensim's KeyedVectors: {error}", path, HINT) from error
    if vectors is None or vectors.ndim != 2 or not isinstance(words, list) or len(words) != len(vectors):
        raise UserError("gensim's KeyedVectors without a list of words and one vector per word", path, HINT)
    return [str(word) for word in words], vectors


def _vectors(content: dict[str, Any], path: Path) -> NDArray[np.floating[Any]] | None:
    """The array of vectors: inside the pickle, or in a file next to it."""
    for name in ("vectors", "syn0"):
        if name in content.get("__numpys", ()):
            is_compressed = path.suffix in (".gz", ".bz2")
            return _read_array(path.with_name(f"{path.name}.{name}.{'npz' if is_compressed else 'npy'}"))
        if isinstance(content.get(name), _Array):
            numbers: NDArray[np.floating[Any]] | None = content[name].numbers
            return numbers
    return None


def _read_array(path: Path) -> NDArray[np.floating[Any]]:
    if not path.is_file():
        raise UserError("no such file; it has the vectors of the file without this ending", path, "copy both files")
    if path.suffix == ".npz":
        with ZipFile(path) as archive:
            entries = archive.infolist()
        if any(entry.file_size > MAX_INFLATION * max(entry.compress_size, 1) for entry in entries):
            raise ValueError(f"{path.name} is larger than {MAX_INFLATION} times what its file holds")
    array: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    return np.asarray(array["val"] if path.suffix == ".npz" else array)
