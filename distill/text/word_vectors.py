"""Word vectors: pretrained ones from word2vec files, and a teacher's, reduced by PCA.

gensim opens the files (plain, .gz, .bz2) and holds the vectors (``KeyedVectors``); this is the only module that imports
it. It does not parse the rows, because it cannot select them: ``load_word2vec_format`` takes the first rows or all of
them, and a whole file may not fit into memory. The reader here streams the file, keeps the rows of a vocabulary,
detects whether the format is text or binary, and names the line of an error. A test compares its rows with gensim's.
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
CHUNK = 1 << 22  # bytes read at a time
INCOMPLETE = "the file is cut short"
COPY_AGAIN = "copy or download it again"
VECTOR_STD = 0.3  # of a teacher's reduced vectors, about that of pretrained word vectors

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class VectorFile:
    """A word2vec file, and why it was chosen."""

    path: Path
    reason: str


def find_vectors(name: str, folder: Path = FOLDER) -> VectorFile:
    """The file that ``--vectors`` names: ``auto`` (a file in ``embeddings/``, else bundled), ``bundled``, or a path.

    Raises:
        UserError: there is no such file, or ``embeddings/`` has several.
    """
    if name not in ("auto", "bundled"):
        if not Path(name).is_file():
            raise UserError("no such file of word vectors", name, "--vectors FILE, auto or bundled")
        return VectorFile(Path(name), "named by --vectors")
    files = sorted(p for p in folder.glob("*") if p.is_file() and p.suffix not in NOT_VECTORS and p.name[0] != ".")
    if name == "auto" and len(files) > 1:
        names = ", ".join(path.name for path in files)
        raise UserError(f"several files of word vectors: {names}", folder, "--vectors FILE chooses one")
    if name == "auto" and files:
        return VectorFile(files[0], f"the file in {folder}/")
    reason = "" if name == "bundled" else f"; {folder}/ has none"
    return VectorFile(_bundled_file(), f"bundled with the package synonyms{reason}")


def _bundled_file() -> Path:
    spec = find_spec("synonyms")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise UserError("the bundled vectors need the package synonyms", None, "pip install synonyms==3.10.2")
    return Path(folders[0]) / "data" / "words.vector"


def load_vectors(path: Path, vocabulary: Collection[str]) -> KeyedVectors:
    """Vectors of the words of ``vocabulary`` that the file contains, in the file's order.

    The file is in word2vec's text or binary format, plain, .gz or .bz2. If a word is repeated, its first row is used.

    Raises:
        UserError: the file is not a word2vec file, is incomplete, or has rows of the wrong width.
    """
    from gensim import utils
    from gensim.models import KeyedVectors

    word_by_bytes = {word.encode("utf-8", "surrogatepass"): word for word in vocabulary}
    rows: dict[str, Rows] = {}
    try:
        with utils.open(str(path), "rb") as file:
            count, width = _read_header(file, path)
            for word, vector in _selected_rows(file, path, count, width, word_by_bytes.keys()):
                rows.setdefault(word_by_bytes[word], vector)
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{INCOMPLETE} or not readable: {error}", path, COPY_AGAIN) from error
    vectors = KeyedVectors(width)
    if rows:
        vectors.add_vectors(list(rows), np.stack(list(rows.values())))
    return vectors


class VectorReader:
    """Reads a file of vectors once for several vocabularies, and again only for words that are new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._requested: frozenset[str] = frozenset()
        self._loaded: KeyedVectors | None = None

    def read(self, vocabulary: Collection[str]) -> KeyedVectors:
        """The same as :func:`load_vectors`."""
        from gensim.models import KeyedVectors

        if self._loaded is None or not self._requested.issuperset(vocabulary):
            self._requested |= frozenset(vocabulary)
            self._loaded = load_vectors(self.path, self._requested)
        wanted = set(vocabulary)
        words = [word for word in self._loaded.index_to_key if word in wanted]
        vectors = KeyedVectors(self._loaded.vector_size)
        if words:
            vectors.add_vectors(words, self._loaded[words])
        return vectors


def _read_header(file: BinaryIO, path: Path) -> tuple[int, int]:
    """The number of words and the width of a vector."""
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


def _selected_rows(
    file: BinaryIO, path: Path, count: int, width: int, words: Collection[bytes]
) -> Iterator[tuple[bytes, Rows]]:
    """The rows of ``words``. The form of every row is checked, selected or not."""
    start = file.read(CHUNK)
    rows, parse = (_text_rows, _parse_text) if _is_text(start) else (_binary_rows, _parse_binary)
    number = 0
    all_rows = with_progress_bar(rows(file, start, path, width), "word vectors", count, "rows")
    for number, (word, raw) in enumerate(all_rows, 1):
        if word in words:
            yield word, parse(raw, f"{path}:{number + 1}")
        if number == count:
            return
    raise UserError(f"{INCOMPLETE}: {number} rows of {count}", path, COPY_AGAIN)


def _parse_binary(raw: bytes, where: str) -> Rows:
    return np.frombuffer(raw, "<f4").astype(np.float32)


def _parse_text(raw: bytes, where: str) -> Rows:
    try:
        return np.array(raw.split(), dtype=np.float32)
    except ValueError as error:
        raise UserError(f"this row contains something that is not a number: {error}", where, COPY_AGAIN) from error


def _is_text(start: bytes) -> bool:
    """Whether the first row is a word and numbers in text; a binary row has bytes that no number has."""
    _, _, numbers = start.split(b"\n", 1)[0].rstrip().partition(b" ")
    return bool(numbers) and not numbers.strip(b"0123456789+-.eEinfa \t\r")


def _text_rows(file: BinaryIO, start: bytes, path: Path, width: int) -> Iterator[tuple[bytes, bytes]]:
    for number, line in enumerate(_split_lines(file, start), 2):
        row = line.rstrip()
        if row.count(b" ") != width:
            raise UserError(f"a row of {row.count(b' ')} numbers, {width} expected", f"{path}:{number}", COPY_AGAIN)
        word, _, numbers = row.partition(b" ")
        yield word, numbers


def _split_lines(file: BinaryIO, start: bytes) -> Iterator[bytes]:
    """Lines of ``start`` and of the rest of the file, read in chunks."""
    rest = start
    while rest:
        *lines, rest = rest.split(b"\n")
        yield from lines
        chunk = file.read(CHUNK)
        if not chunk:
            break
        rest += chunk
    if rest.strip():
        yield rest


def _binary_rows(file: BinaryIO, start: bytes, path: Path, width: int) -> Iterator[tuple[bytes, bytes]]:
    """A row is a word, a space and ``width`` little-endian float32, optionally followed by a line feed."""
    buffer, begin, size = start, 0, 4 * width
    while True:
        space = buffer.find(b" ", begin)
        if space < 0 or space + 1 + size > len(buffer):
            chunk = file.read(CHUNK)
            if not chunk:
                if buffer[begin:].strip(b"\n"):
                    raise UserError(f"{INCOMPLETE}, within a row", path, COPY_AGAIN)
                return
            buffer, begin = buffer[begin:] + chunk, 0
            continue
        end = space + 1 + size
        yield buffer[begin:space].lstrip(b"\n"), buffer[space + 1 : end]
        begin = end


def embedding_matrix(vectors: KeyedVectors, words: tuple[str, ...], seed: int) -> Rows:
    """One row per word, shape ``(words, width)``; the first row (padding) is zero.

    A word without a vector gets the mean of its characters' vectors; without those, noise with the standard deviation
    of all vectors.
    """
    noise = np.random.default_rng(seed)
    std = float(vectors.vectors.std()) if len(vectors) else 0.1
    rows = noise.normal(0.0, std, (len(words), vectors.vector_size)).astype(np.float32)
    for index, word in enumerate(words):
        characters = [vectors[char] for char in word if char in vectors]
        if word in vectors:
            rows[index] = vectors[word]
        elif characters:
            rows[index] = np.mean(characters, axis=0)
    rows[0] = 0.0
    return rows


def reduce_dimensions(rows: Rows, width: int) -> Rows:
    """The first ``width`` principal components (Pearson 1901) of ``rows`` (words, any width), scaled to ``VECTOR_STD``.

    Used for the vectors that a teacher computes for single words: a student that starts from them knows what a word
    means for the task even if no training text contains it. The result is narrower where ``rows`` has fewer columns or
    rows than ``width``.
    """
    from sklearn.decomposition import PCA

    width = min(width, *rows.shape)
    return scale_to_std(PCA(width, svd_solver="covariance_eigh").fit_transform(rows).astype(np.float32))


def scale_to_std(rows: Rows) -> Rows:
    """Rows scaled to the standard deviation ``VECTOR_STD``, so that vectors of several kinds have the same weight."""
    return rows * np.float32(VECTOR_STD / max(float(rows.std()), 1e-12))
