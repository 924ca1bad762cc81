"""What students read: vocabulary and first word vectors of the networks over words, or the graph of textgcn."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from distill.commands.experiment import Run
from distill.commands.student_spec import StudentSpec
from distill.commands.teachers import model_teacher, teacher_word_vectors
from distill.data import Example
from distill.models import textgcn
from distill.models.build import build_student, ngram_buckets
from distill.models.student import Student
from distill.models.textgcn import DocumentIndex
from distill.models.tokenizer import WordTokenizer
from distill.progress import log
from distill.text import word_vectors
from distill.text.batching import PackedIds
from distill.text.vector_files import Rows
from distill.text.vocabulary import UNKNOWN_ID, Vocabulary, build_vocabulary
from distill.text.word_vectors import reduce_dimensions, require_finite, scale_to_std

FIRST_WORD = UNKNOWN_ID + 1  # of a vocabulary, after padding and the unknown word

Build = Callable[[int, PackedIds], Student]  # (seed, encoded train texts) -> a network with its first weights
Encode = Callable[[Sequence[Example]], PackedIds]


TeacherVectors = Callable[[Sequence[str]], NDArray[np.float32]]  # words -> vectors (words, width)


def word_input(
    run: Run, spec: StudentSpec, texts: Sequence[Example], teacher_vectors: TeacherVectors | None = None
) -> tuple[Build, Encode, WordTokenizer]:
    """Vocabulary and word vectors for the networks over words.

    ``teacher_vectors`` computes vectors of words where the student's come from a teacher; None: the first teacher that
    is a model does.
    """
    settings = spec.student
    dictionary = run.segmenter.frequent_words(settings.dictionary) if spec.from_teacher else ()
    vocabulary = build_vocabulary(run.segmented(texts), settings.min_count, dictionary)
    tokenizer = WordTokenizer(vocabulary, settings.max_length, ngram_buckets(settings), run.segmenter)
    vectors = _vectors(run, spec, vocabulary, teacher_vectors)

    def build(seed: int, train: PackedIds) -> Student:
        torch.manual_seed(seed)
        return build_student(settings, vectors(seed), vocabulary.words, len(run.data.labels), train)

    def encode(examples: Sequence[Example]) -> PackedIds:
        return tokenizer.encode_segmented(run.segmented(examples), [example.text for example in examples])

    return build, encode, tokenizer


def _vectors(
    run: Run, spec: StudentSpec, vocabulary: Vocabulary, teacher_vectors: TeacherVectors | None
) -> Callable[[int], Rows]:
    """The initial word vectors, shape (words, width), as a function of the seed: words without one get noise."""
    reader = run.vectors(spec.student.vectors)
    pretrained = reader.read(vocabulary.words) if reader else None
    if reader:
        tokens = _token_counts(run, spec, vocabulary)
        word_vectors.check_coverage(pretrained, vocabulary.words[FIRST_WORD:], tokens, reader.path)
    if not spec.from_teacher:
        start = pretrained if reader else word_vectors.no_vectors(len(vocabulary))
        return lambda seed: word_vectors.embedding_matrix(start, vocabulary.words, seed)
    words = vocabulary.words[FIRST_WORD:]
    if teacher_vectors is None:
        teacher = model_teacher(spec.teachers, f"--vectors {spec.student.vectors}")
        vectors = teacher_word_vectors(run, teacher, words)
    else:
        vectors = teacher_vectors(words)
    rows = reduce_dimensions(vectors, spec.student.teacher_width)
    if pretrained is not None:
        other = word_vectors.embedding_matrix(pretrained, vocabulary.words, run.settings.run.seed)[FIRST_WORD:]
        rows = np.concatenate([rows, scale_to_std(other)], axis=1)
    log.info("words: %d in the vocabulary, each with a vector from the teacher", len(vocabulary))
    zeros = np.zeros((FIRST_WORD, rows.shape[1]), np.float32)
    matrix = require_finite(np.concatenate([zeros, rows]), vocabulary.words)
    return lambda seed: matrix


def _token_counts(run: Run, spec: StudentSpec, vocabulary: Vocabulary) -> Counter[str]:
    """How often each word of the vocabulary occurs in the train texts, as the student reads them."""
    ids = (vocabulary.encode(words, spec.student.max_length) for words in run.segmented(run.data.train))
    return Counter(vocabulary.words[index] for index in itertools.chain.from_iterable(ids))


def graph_input(run: Run, spec: StudentSpec, texts: Sequence[Example]) -> tuple[Build, Encode, DocumentIndex]:
    """The graph of all texts for textgcn; it holds the texts of dev and test but not their labels."""
    nodes = (*texts, *run.data.train, *run.data.dev, *run.data.test)

    def build(seed: int, train: PackedIds) -> Student:
        torch.manual_seed(seed)
        ids = [example.id for example in nodes]
        return textgcn.build(spec.student, ids, run.segmented(nodes), len(run.data.labels))[0]

    documents = DocumentIndex(tuple(dict.fromkeys(example.id for example in nodes)))
    return build, lambda examples: documents.encode([example.text for example in examples]), documents
