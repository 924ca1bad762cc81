"""A trained student as a bundle: quantised word vectors, the network's weights, n-grams, and jieba's dictionary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from distill.errors import UserError
from distill.export.trie import lexicon_arrays
from distill.models.build import architecture_of
from distill.models.checkpoint import load_word_student, recorded_segmenter
from distill.models.student import Arrays, Student
from distill.models.tokenizer import WordTokenizer
from distill.runtime import schema
from distill.runtime.bundle import BUNDLE_ARRAYS, BUNDLE_CARD, checksum, read_bundle
from distill.storage.atomic import write_file, write_folder, write_json
from distill.storage.fingerprints import fingerprint_file
from distill.storage.run_folder import STUDENT_CARD, STUDENT_WEIGHTS, VOCABULARY
from distill.text.segmentation import Segmenter
from distill.text.vocabulary import UNKNOWN_ID, Vocabulary

STUDENT_FILES = (STUDENT_CARD, STUDENT_WEIGHTS, VOCABULARY)
MADE_FROM = "made_from"  # in the card: the fingerprints of these files, the largest size and how it is reached
REDUCTION = "words in 8 bits, then fewer words"
MAX_NGRAM_ROWS = 2**16  # a bucket's row is a uint16


def export_bundle(
    student: Path,
    bundle: Path,
    max_bytes: float = math.inf,
    segmenter: Segmenter | None = None,
    examples: Sequence[str] = (),
) -> Path:
    """Write the bundle of a student's folder, replacing ``bundle`` atomically; returns ``bundle``.

    If the arrays take more than ``max_bytes``, word vectors are kept in 8 bits instead of 16. If that is not enough,
    the last words of the vocabulary, which are the rarest, are left out; the runtime then reads them as their
    characters, like every word that is not in the vocabulary. The bundle contains the tables of ``segmenter`` (None:
    jieba without a user dictionary), which must be the one of its training, and ``examples``, texts that the web page
    offers.

    Raises:
        UserError: there is no student, it cannot be exported, or it is too large without any words.
    """
    model, tokenizer, labels, temperature, thresholds, tasks = load_word_student(student, segmenter)
    _check_segmenter(student, tokenizer.segmenter)
    network, arrays = network_arrays(model)
    arrays = _with_lexicon(arrays, tokenizer, max_bytes)
    card = {
        "format": schema.SEVERAL_TASKS if tasks else schema.ANY_LABELS if thresholds else schema.ONE_LABEL,
        "network": network,
        "labels": list(labels),
        "temperature": temperature,
        **({"thresholds": list(thresholds)} if thresholds else {}),
        **({"tasks": [task.card for task in tasks]} if tasks else {}),
        "max_length": tokenizer.max_length,
        "ngram_characters": tokenizer.ngram_characters,
        "segmenter": tokenizer.segmenter.identity,
        **_options(student, max_bytes, examples),
    }
    schema.check(card, arrays, student, "report this as a bug")
    with write_folder(bundle) as temporary:
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        write_file(temporary / BUNDLE_ARRAYS, content)
        write_json(temporary / BUNDLE_CARD, card | {"files": {BUNDLE_ARRAYS: checksum(content)}})
    return bundle


def _options(student: Path, max_bytes: float, examples: Sequence[str]) -> dict[str, Any]:
    """What the card records of an export: the student's files by their fingerprints, and the settings."""
    files = {name: fingerprint_file(student / name) for name in STUDENT_FILES if (student / name).is_file()}
    limit = {} if max_bytes == math.inf else {"max_bytes": int(max_bytes), "reduction": REDUCTION}
    made_from = {**files, **limit}
    return {MADE_FROM: made_from, **({"examples": list(examples)} if examples else {})}


def is_bundle_of(bundle: Path, student: Path) -> bool:
    """Whether a folder holds a sound bundle that was exported from this student, with whatever settings."""
    made_from = _card(bundle).get(MADE_FROM)
    files = _options(student, math.inf, ())[MADE_FROM]
    return (
        isinstance(made_from, dict) and {name: made_from[name] for name in STUDENT_FILES if name in made_from} == files
    )


def is_current(bundle: Path, student: Path, max_bytes: float, examples: Sequence[str]) -> bool:
    """Whether exporting the student with these settings would write the same bundle again."""
    card, wanted = _card(bundle), _options(student, max_bytes, examples)
    return {name: card[name] for name in (MADE_FROM, "examples") if name in card} == wanted


def _card(bundle: Path) -> dict[str, Any]:
    """A bundle's card; empty if the folder holds no sound bundle."""
    try:
        return read_bundle(bundle).card
    except UserError:
        return {}


def _check_segmenter(student: Path, segmenter: Segmenter) -> None:
    """Refuse a segmenter other than the one that the student was trained with."""
    if mismatch := segmenter.mismatch(recorded_segmenter(student)):
        raise UserError(mismatch, student, "give the same --user_dict and version of jieba, or train it again")


def _with_lexicon(arrays: Arrays, tokenizer: WordTokenizer, max_bytes: float) -> Arrays:
    """The arrays and the lexicon in ``max_bytes``: all words in 16 bits, or else as many as fit in 8."""
    vocabulary, tables = tokenizer.vocabulary, tokenizer.segmenter.tables
    every_word = arrays | lexicon_arrays(vocabulary, tables)
    if _size(every_word) <= max_bytes:
        return every_word
    every_word |= in_8_bits(arrays["words"], arrays["words.scale"])
    size = _size(every_word)
    if size <= max_bytes:
        return every_word
    per_word = every_word["words"][0].nbytes + every_word["lexicon.words"][0].nbytes
    count = len(vocabulary) - math.ceil((size - max_bytes) / per_word)
    if count <= UNKNOWN_ID + 1:
        needed = math.ceil((size - per_word * len(vocabulary)) / 1e5) / 10
        raise UserError(f"{needed:g} MB are needed even without words", "--max_mb", "a larger --max_mb, or 0: no limit")
    pruned = Vocabulary(vocabulary.words[:count])
    return every_word | {"words": every_word["words"][:count]} | lexicon_arrays(pruned, tables)


def _size(arrays: Arrays) -> int:
    """Bytes of the arrays."""
    return sum(array.nbytes for array in arrays.values())


def in_8_bits(words: NDArray[np.int16], scale: NDArray[np.float32]) -> Arrays:
    """Word vectors in 8 bits instead of 16."""
    ratio = np.iinfo(np.int16).max / np.iinfo(np.int8).max
    return {"words": np.rint(words / ratio).astype(np.int8), "words.scale": (scale * ratio).astype(np.float32)}


def network_arrays(model: Student) -> tuple[dict[str, Any], Arrays]:
    """The card's description of a network, and its arrays (:mod:`distill.runtime.schema`).

    Raises:
        UserError: the runtime cannot compute the network, or it has too many n-grams.
    """
    options, arrays = model.bundle_network()
    embedding, classifier = model.embedding.weight, model.classifier.weight.detach().numpy().T  # (features, classes)
    own_features = len(classifier) - model.ngram_features
    arrays |= _quantised("words", embedding.detach().numpy())  # type: ignore[operator]
    arrays["classifier.bias"] = model.classifier.bias.detach().numpy()
    arrays["classifier.weight"] = classifier[:own_features]
    return {"architecture": architecture_of(model), **options}, arrays | _ngrams(model, classifier[own_features:])


def _quantised(name: str, table: NDArray[np.float32]) -> Arrays:
    """A table in 16 bits, with a scale for each column."""
    scale = np.maximum(np.abs(table).max(axis=0) / 32767, 1e-12).astype(np.float32)
    return {name: np.rint(table / scale).astype(np.int16), f"{name}.scale": scale}


def _ngrams(model: Student, classifier: NDArray[np.float32]) -> Arrays:
    """The n-grams' vectors, or their logits if the mean of the vectors goes straight into the classifier.

    ``classifier`` are the classifier's weights of the n-grams' mean, (width, classes), or none.
    """
    if model.ngrams is None:
        return {}
    row_of, table = model.ngrams.row_of.numpy(), model.ngrams.table.weight.detach().numpy()
    if len(table) > MAX_NGRAM_ROWS:
        what = f"{len(table)} n-gram vectors, at most {MAX_NGRAM_ROWS} fit into a bundle"
        raise UserError(what, None, "--ngrams with a smaller number")
    vectors = {"ngrams.says": table @ classifier} if len(classifier) else _quantised("ngrams", table)
    return {"ngrams.row_of": row_of.astype(np.uint16), **vectors}
