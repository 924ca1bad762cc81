"""Pretrained word vectors: word2vec files read as a stream, of which only a vocabulary's rows stay in memory.

The only module that imports gensim: its opener reads .gz and .bz2, its :class:`KeyedVectors` holds what was kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.progress import with_progress_bar

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

FOLDER = Path("embeddings")
NOT_VECTORS = (".md", ".gitkeep", ".gitignore")
CHUNK = 1 << 22
CUT_SHORT = "the file is cut short"
AGAIN = "copy or download it again"


@dataclass(frozen=True)
class VectorFile:
    """A word2vec file and why it was taken."""

    path: Path
    why: str


def find_vectors(asked: str, folder: Path = FOLDER) -> VectorFile:
    """The file behind ``auto`` (a file in ``embeddings/``, else the bundled one), ``bundled``, or a path."""
    if asked not in ("auto", "bundled"):
        if not Path(asked).is_file():
            raise UserError("no such file of word vectors", asked, "--vectors FILE, auto or bundled")
        return VectorFile(Path(asked), "asked for by --vectors")
    files = sorted(p for p in folder.glob("*") if p.is_file() and p.suffix not in NOT_VECTORS and p.name[0] != ".")
    if asked == "auto" and len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(f"several files of word vectors: {names}", folder, "--vectors FILE names the one to use")
    if asked == "auto" and files:
        return VectorFile(files[0], f"the file in {folder}/")
    return VectorFile(
        _bundled(), f"bundled with the package synonyms{'' if asked == 'bundled' else f'; {folder}/ has none'}"
    )


def _bundled() -> Path:
    spec = find_spec("synonyms")
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise UserError("the bundled vectors need the package synonyms", None, "pip install synonyms==3.10.2")
    return Path(places[0]) / "data" / "words.vector"


def load_vectors(path: Path, vocabulary: Collection[str]) -> KeyedVectors:
    """Vectors of those words of ``vocabulary`` that the file has.

    The file is word2vec's text or binary format, plain, .gz or .bz2; its first row of a word wins.

    Raises:
        UserError: the file is no word2vec file, is cut short, or has rows of the wrong width.
    """
    from gensim import utils
    from gensim.models import KeyedVectors

    wanted = {word.encode("utf-8", "surrogatepass"): word for word in vocabulary}
    found: dict[str, NDArray[np.float32]] = {}
    try:
        with utils.open(str(path), "rb") as file:
            count, width = _header(file, path)
            for word, vector in _rows(file, path, count, width, wanted.keys()):
                found.setdefault(wanted[word], vector)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{CUT_SHORT} or not readable: {error}", path, AGAIN) from error
    vectors = KeyedVectors(width)
    if found:
        vectors.add_vectors(list(found), np.stack(list(found.values())))
    return vectors


class VectorReader:
    """Reads a file of vectors once for all vocabularies, and again only for words that none of them had."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._asked: frozenset[str] = frozenset()
        self._found: KeyedVectors | None = None

    def read(self, vocabulary: Collection[str]) -> KeyedVectors:
        """What :func:`load_vectors` gives, in the file's order too."""
        from gensim.models import KeyedVectors

        if self._found is None or not self._asked.issuperset(vocabulary):
            self._asked |= frozenset(vocabulary)
            self._found = load_vectors(self.path, self._asked)
        wanted = set(vocabulary)
        words = [word for word in self._found.index_to_key if word in wanted]
        vectors = KeyedVectors(self._found.vector_size)
        if words:
            vectors.add_vectors(words, self._found[words])
        return vectors


def _header(file: BinaryIO, path: Path) -> tuple[int, int]:
    line = file.readline(100)
    try:
        count, width = (int(number) for number in line.split())
    except ValueError:
        count = width = 0
    if width < 1:
        raise UserError(
            "the first line must be the number of words and the width of a vector",
            f"{path}:1",
            "use a file in word2vec's text or binary format, such as sgns.wiki.word",
        )
    return count, width


def _rows(
    file: BinaryIO, path: Path, count: int, width: int, wanted: Collection[bytes]
) -> Iterator[tuple[bytes, NDArray[np.float32]]]:
    """Rows of wanted words; every row's form is checked, wanted or not."""
    start = file.read(CHUNK)
    rows, numbers = (_text_rows, _text_numbers) if _is_text(start) else (_binary_rows, _binary_numbers)
    seen = 0
    shown = with_progress_bar(rows(file, start, path, width), "word vectors", count, "rows")
    for seen, (word, raw) in enumerate(shown, 1):
        if word in wanted:
            yield word, numbers(raw, f"{path}:{seen + 1}")
        if seen == count:
            return
    raise UserError(f"{CUT_SHORT}: {seen} rows of {count}", path, AGAIN)


def _binary_numbers(raw: bytes, where: str) -> NDArray[np.float32]:
    return np.frombuffer(raw, "<f4").astype(np.float32)


def _text_numbers(raw: bytes, where: str) -> NDArray[np.float32]:
    try:
        return np.array(raw.split(), dtype=np.float32)
    except ValueError as error:
        raise UserError(f"not a number in this row: {error}", where, AGAIN) from error


def _only_numbers(raw: bytes) -> bool:
    return not raw.strip(b"0123456789+-.eEinfa \t\r")


def _is_text(start: bytes) -> bool:
    """Whether the first row reads as a word and numbers; a binary row has bytes that no number has."""
    first = start.split(b"\n", 1)[0].rstrip()
    _, _, numbers = first.partition(b" ")
    return bool(numbers) and _only_numbers(numbers)


def _text_rows(file: BinaryIO, start: bytes, path: Path, width: int) -> Iterator[tuple[bytes, bytes]]:
    for number, line in enumerate(_split_lines(file, start), 2):
        row = line.rstrip()
        if row.count(b" ") != width:
            raise UserError(f"a row of {row.count(b' ')} numbers, {width} expected", f"{path}:{number}", AGAIN)
        word, _, numbers = row.partition(b" ")
        yield word, numbers


def _split_lines(file: BinaryIO, start: bytes) -> Iterator[bytes]:
    rest = start
    while rest:
        *lines, rest = rest.split(b"\n")
        yield from lines
        more = file.read(CHUNK)
        if not more:
            break
        rest += more
    if rest.strip():
        yield rest


def _binary_rows(file: BinaryIO, start: bytes, path: Path, width: int) -> Iterator[tuple[bytes, bytes]]:
    buffer, at, size = start, 0, 4 * width
    while True:
        space = buffer.find(b" ", at)
        if space < 0 or space + 1 + size > len(buffer):
            more = file.read(CHUNK)
            if not more:
                if buffer[at:].strip(b"\n"):
                    raise UserError(f"{CUT_SHORT}, within a row", path, AGAIN)
                return
            buffer, at = buffer[at:] + more, 0
            continue
        end = space + 1 + size
        yield buffer[at:space].lstrip(b"\n"), buffer[space + 1 : end]
        at = end


def matrix(vectors: KeyedVectors, words: tuple[str, ...], seed: int) -> NDArray[np.float32]:
    """One row a word, shape ``(words, width)``.

    A word without a vector gets the mean of its characters' vectors, or noise of the vectors' own spread; the first
    row (padding) is zero.
    """
    noise = np.random.default_rng(seed)
    spread = float(vectors.vectors.std()) if len(vectors) else 0.1
    rows = noise.normal(0.0, spread, (len(words), vectors.vector_size)).astype(np.float32)
    for index, word in enumerate(words):
        characters = [vectors[char] for char in word if char in vectors]
        if word in vectors:
            rows[index] = vectors[word]
        elif characters:
            rows[index] = np.mean(characters, axis=0)
    rows[0] = 0.0
    return rows
