"""ctypes mirrors of the C kernels' structs; when the library is loaded, each is compared with its original.

Here are the structs that exported functions take. A network's own struct is in the network's module.
"""

from __future__ import annotations

import ctypes
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

Layout = dict[str, tuple[int, int]]  # offset and size in bytes of every field, and of the whole struct under ""
MIRRORS: dict[str, type[ctypes.Structure]] = {}  # every mirror under its name in C
Int32, Int64, Pointer, NoBytes = ctypes.c_int32, ctypes.c_int64, ctypes.c_void_p, ctypes.c_char * 0


def address(array: NDArray[Any]) -> int:
    """The address of an array's data; for an array that can be written, several times faster than ``array.ctypes``."""
    if array.flags.writeable and array.flags.c_contiguous:
        return ctypes.addressof(NoBytes.from_buffer(array))  # type: ignore[arg-type]  # before Python 3.12
    return int(array.ctypes.data)


class Struct(ctypes.Structure):
    """A C struct of numbers, pointers and structs. A subclass has the name and the fields of the struct in C."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        MIRRORS[cls.__name__] = cls

    @classmethod
    def of(cls, **values: Any) -> Self:
        """A struct with these values: arrays for pointers, which the struct keeps alive."""
        fields = {name: address(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}
        return cls(**fields).keep_alive(values)

    def keep_alive(self, *objects: object) -> Self:
        """This struct, which keeps objects alive that its pointers lead to."""
        self._referenced = (*getattr(self, "_referenced", ()), *objects)
        return self


class Texts(Struct):
    """Texts in UTF-8, ``bytes`` or an address; see kernels/common.h."""

    _fields_ = (("bytes", ctypes.c_char_p), ("spans", Pointer), ("count", Int64))


class CharacterTable(Struct):
    """Case and width of every character; see kernels/characters.h."""

    _fields_ = (("pages", Pointer), ("entries", Pointer))


class TrieNode(Struct):
    """A node of the trie; see kernels/trie.h."""

    _fields_ = (("parent", ctypes.c_uint32), ("character", ctypes.c_uint16), ("entry", ctypes.c_uint16))


class Trie(Struct):
    """A trie as a hash table; see kernels/trie.h."""

    _fields_ = (("node_by_char", Pointer), ("nodes", Pointer), ("char_count", Int64), ("hash_bits", Int64))


class Lexicon(Struct):
    """Dictionary, hidden Markov model and vocabulary; see kernels/segmentation.h."""

    _fields_ = (
        ("trie", Trie),
        ("ids", Pointer),
        ("scores", Pointer),
        ("start", Pointer),
        ("transitions", Pointer),
        ("emissions", Pointer),
    )


class NgramTable(Struct):
    """Buckets of hashed n-grams; see kernels/ngrams.h."""

    _fields_ = (("row_by_bucket", Pointer), ("bucket_count", Int64), ("max_characters", Int64))


class TextEncoder(Struct):
    """What turns texts into ids and rows; see kernels/encoder.h."""

    _fields_ = (("characters", CharacterTable), ("lexicon", Lexicon), ("ngrams", NgramTable))


class EncodedTexts(Struct):
    """Texts as ids of words and rows of n-grams; see kernels/network.h."""

    _fields_ = (
        ("ids", Pointer),
        ("lengths", Pointer),
        ("ngram_rows", Pointer),
        ("ngram_starts", Pointer),
        ("count", Int64),
        ("max_length", Int32),
    )


class Dense(Struct):
    """A dense layer; see kernels/dense.h."""

    _fields_ = (("weight", Pointer), ("bias", Pointer), ("out", Int32))


class StudentModel(Struct):
    """A network and its classifier; see kernels/student.c."""

    _fields_ = (
        ("forward", Pointer),
        ("network", Pointer),
        ("pooled_width", Int32),
        ("sorts_texts", Int32),
        ("hidden", Dense),
        ("classifier", Dense),
        ("ngram_logits", Pointer),
        ("classes", Int32),
    )


class RowFormat(Struct):
    """How the rows of a file are read; see kernels/rows.h."""

    _fields_ = (
        ("kind", Int32),
        ("delimiter", Int32),
        ("width", Int32),
        ("text", Int32),
        ("has_quoted_cells", Int32),
        ("declines_formulas", Int32),
        ("keys", Pointer),
        ("key_starts", Pointer),
        ("key_count", Int64),
        ("max_line", Int64),
        ("max_row", Int64),
        ("max_row_lines", Int64),
    )


class LineBlock(Struct):
    """A part of a file, and how much of it was read; see kernels/rows.h."""

    _fields_ = (
        ("bytes", Pointer),
        ("at", Int64),
        ("end", Int64),
        ("stop", Int64),
        ("lines", Int64),
        ("is_last", Int32),
    )


class RowBuffer(Struct):
    """Rows that were found, and their texts; see kernels/rows.h."""

    _fields_ = (
        ("content", Pointer),
        ("rows", Pointer),
        ("texts", Pointer),
        ("count", Int64),
        ("max_rows", Int64),
        ("size", Int64),
        ("capacity", Int64),
    )


class RowEnding(Struct):
    """What follows each row; see kernels/rows.h."""

    _fields_ = (("labels", Pointer), ("label_starts", Pointer), ("end", Pointer), ("end_size", Int64))


def layout(mirror: type[ctypes.Structure]) -> Layout:
    """The layout of a mirror."""
    fields = ((name, getattr(mirror, name)) for name, *_ in mirror._fields_)
    return {name: (field.offset, field.size) for name, field in fields} | {"": (0, ctypes.sizeof(mirror))}
