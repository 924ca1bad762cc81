"""Word vectors: pretrained ones from files, and a teacher's, reduced by PCA.

gensim holds the vectors (``KeyedVectors``); this is the only module that imports it. It does not read the files,
because it cannot select rows: ``load_word2vec_format`` takes the first rows or all of them, and a whole file may not
fit into memory. :mod:`distill.text.vector_files` reads them as a stream. A test compares its rows with gensim's.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from distill.errors import UserError
from distill.progress import log, remind
from distill.storage.fingerprints import fingerprint_file, fingerprint_texts
from distill.text.gensim_pickle import array_files
from distill.text.vector_files import ENCODINGS, Rows, VectorTable, read_table

if TYPE_CHECKING:
    from gensim.models import KeyedVectors

FOLDER = Path("embeddings")
NO_VECTORS = "none"  # the value of --vectors for a student that starts from random vectors
RANDOM_WIDTH = 100  # dimensions of these vectors, as many as the bundled ones have
RANDOM_STD = 0.1  # their standard deviation
NOT_VECTORS = (".md", ".gitkeep", ".gitignore", ".npy", ".npz")  # gensim's arrays belong to the file next to them
CHUNK = 1 << 22  # bytes read at a time
OTHER_VECTORS = (
    "--vectors FILE with Chinese words, --vectors bundled, or --vectors none, which trains without pretrained vectors"
)
MIN_TOKENS = 30  # per cent of the tokens: with fewer, vectors and texts do not seem to fit together
VECTOR_STD = 0.3  # of a teacher's reduced vectors, about that of pretrained word vectors


@dataclass(frozen=True)
class VectorFile:
    """A file of word vectors, and why it was chosen."""

    path: Path
    reason: str


def find_vectors(name: str, folder: Path = FOLDER) -> VectorFile:
    """The file that ``--vectors`` names: ``auto`` (a file in ``embeddings/``, else bundled), ``bundled``, or a path.

    Raises:
        UserError: there is no such file, or ``embeddings/`` has several.
    """
    if name not in ("auto", "bundled"):
        if not Path(name).is_file():
            raise UserError("no such file of word vectors", name, "--vectors FILE, auto, bundled or none")
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
    path = Path(folders[0]) / "data" / "words.vector" if folders else None
    if not path or not path.is_file():  # later versions download their vectors
        raise UserError(
            "the bundled vectors are those of the package synonyms 3.10", path, "pip install synonyms==3.10.2"
        )
    return path


def load_vectors(path: Path, vocabulary: Collection[str]) -> KeyedVectors:
    """Vectors of the words of ``vocabulary`` that the file contains, in the file's order.

    See :mod:`distill.text.vector_files` for the formats. The words are UTF-8 or GB18030. If a word is repeated, its
    first row is used. Rows that cannot be used are left out; their number is logged.

    Raises:
        UserError: the file is not one of word vectors, is incomplete, or has too many rows that cannot be used.
    """
    from gensim.models import KeyedVectors

    words_by_encoding = {encoding: _encode(vocabulary, encoding) for encoding in ENCODINGS}
    table = read_table(path, set().union(*words_by_encoding.values()), CHUNK)
    # the encoding of most of the words that were found; an ASCII word is the same in both
    found = {name: [raw for raw in table.vectors if raw in words] for name, words in words_by_encoding.items()}
    encoding = max(ENCODINGS, key=lambda name: len(found[name]))
    _tell(table, path, encoding)
    vectors = KeyedVectors(table.width)
    if found[encoding]:
        words = [words_by_encoding[encoding][raw] for raw in found[encoding]]
        vectors.add_vectors(words, np.stack([table.vectors[raw] for raw in found[encoding]]))
    return vectors


def _encode(vocabulary: Collection[str], encoding: str) -> dict[bytes, str]:
    """The words by their bytes in an encoding, without those that it cannot write (lone surrogates)."""
    words = {}
    for word in vocabulary:
        with suppress(UnicodeEncodeError):
            words[word.encode(encoding)] = word
    return words


def _tell(table: VectorTable, path: Path, encoding: str) -> None:
    """Log what was decided about the file, each decision in one line."""
    if encoding != ENCODINGS[0]:
        log.info("%s: read as %s, because it is not UTF-8", path, encoding.upper())
    if table.announced is not None and table.total > table.announced:
        log.info("%s: the first line says %d rows, there are %d; all were read", path, table.announced, table.total)
    if table.repeated:
        log.info("%s: %d rows repeat a word of the texts; its first row is used", path, table.repeated)
    if table.unusable:
        examples = "; ".join(table.examples)
        remind(f"{path}: {table.unusable} of {table.total:,} rows cannot be used and were left out: {examples}")


class VectorReader:
    """Reads a file of vectors once for several vocabularies, and again only for words that are new."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._requested: frozenset[str] = frozenset()
        self._loaded: KeyedVectors | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Fingerprint of the file and of the arrays that gensim saved next to it."""
        files = [self.path, *array_files(self.path)]
        prints = [fingerprint_file(file) for file in files]
        return prints[0] if len(prints) == 1 else fingerprint_texts(prints)

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


def check_coverage(vectors: KeyedVectors, words: Sequence[str], tokens: Mapping[str, int], path: Path) -> None:
    """Log how many words and tokens have a vector; add a reminder if they are few.

    Args:
        vectors: the vectors that were found in ``path``.
        words: the vocabulary, without padding and the unknown word.
        tokens: how often each word occurs in the training texts, as the student reads them.
        path: the file of the vectors.

    Raises:
        UserError: no word has a vector, or all vectors are zero.
    """
    found = {word for word in words if word in vectors}
    if words and not found:
        raise UserError(f"none of the {len(words)} words of the texts has a vector", path, OTHER_VECTORS)
    if found and not vectors.vectors.any():
        raise UserError(f"every number is zero in the vectors of all {len(found)} words", path, OTHER_VECTORS)
    composed = {word for word in {*words, *tokens} - found if any(char in vectors for char in word)}
    total = max(sum(tokens.values()), 1)
    own, from_characters = (100 * sum(tokens.get(word, 0) for word in group) / total for group in (found, composed))
    log.info(
        "words: %d in the vocabulary, %d of them with a vector (%.1f %%), %d from their characters; "
        "tokens: %.1f %% with a vector, %.1f %% from their characters",
        *(len(words), len(found), 100 * len(found) / max(len(words), 1), len(composed.intersection(words))),
        *(own, from_characters),
    )
    if own < MIN_TOKENS:
        remind(
            f"{path}: only {own:.1f} % of the tokens of the train texts have a vector, and {from_characters:.1f} % get "
            "the mean of their characters' vectors; if these vectors are for another language or script, use "
            "others (--vectors FILE or bundled) or none (--vectors none)"
        )


def no_vectors(words: int) -> KeyedVectors:
    """Vectors of no word at all, so that ``words`` words start from random numbers; logs that."""
    from gensim.models import KeyedVectors

    log.info("words: %d in the vocabulary, each with a random vector of %d numbers", words, RANDOM_WIDTH)
    return KeyedVectors(RANDOM_WIDTH)


def require_finite(rows: Rows, words: Sequence[str]) -> Rows:
    """Check that the first vectors of ``words``, shape (words, width), are finite: training would turn to NaN.

    Raises:
        UserError: a number is infinite or not a number.
    """
    broken = [words[index] for index in np.flatnonzero(~np.isfinite(rows).all(1)).tolist()]
    if broken:
        examples = ", ".join(map(repr, broken[:3]))
        what = f"the first vectors of {len(broken)} words contain nan or inf: {examples}; the numbers may be too large"
        raise UserError(what, "--vectors", OTHER_VECTORS)
    return rows


def embedding_matrix(vectors: KeyedVectors, words: Sequence[str], seed: int) -> Rows:
    """One row per word, shape ``(words, width)``; the first row (padding) is zero.

    A word without a vector gets the mean of its characters' vectors; without those, noise with the standard deviation
    of all vectors.

    Raises:
        UserError: a number is infinite or not a number.
    """
    noise = np.random.default_rng(seed)
    with np.errstate(over="ignore", invalid="ignore"):  # require_finite reports it
        std = float(vectors.vectors.std()) if len(vectors) else RANDOM_STD
        rows = noise.normal(0.0, std, (len(words), vectors.vector_size)).astype(np.float32)
        for index, word in enumerate(words):
            characters = [vectors[char] for char in word if char in vectors]
            if word in vectors:
                rows[index] = vectors[word]
            elif characters:
                rows[index] = np.mean(characters, axis=0)
    rows[0] = 0.0
    return require_finite(rows, words)


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
