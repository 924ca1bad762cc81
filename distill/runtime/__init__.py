"""The student without PyTorch: loads a bundle and classifies texts. Needs numpy and, once per machine, a C compiler."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distill.errors import UserError
from distill.runtime.bundle import EXPORT, read_bundle
from distill.runtime.cascade import Cascade
from distill.runtime.encoder import NativeEncoder
from distill.runtime.label_sets import sigmoid
from distill.runtime.native import check_status, library, out_of_memory
from distill.runtime.networks import StudentNetwork
from distill.runtime.packing import Utf8Texts, as_list, check_spans, encode, pack
from distill.runtime.structs import Texts, address
from distill.runtime.tasks import (
    ByTask,
    Task,
    by_task,
    check_rejection_of,
    check_top_k_of,
    flat_proba,
    heads_of,
    labels_by_task,
    softmax,
    tasks_of,
    top_k_by_task,
)
from distill.runtime.unsure import Probabilities

__all__ = ["Cascade", "Runtime", "Task", "load"]

# Texts that a thread processes at a time: few enough for the cache, many enough to find texts of similar lengths.
MAX_THREAD_BATCH, MIN_THREAD_BATCH = 256, 64
MAX_THREADS = 1024


class Runtime:
    """A student loaded from its bundle. Threads may share it.

    Args:
        folder: the bundle, as ``--mode export`` wrote it.
        threads: number of threads that share the texts of a call; 0: one per core.

    Attributes:
        labels: the names of the classes; of several tasks, of each after another, as in "topic/体育".
        tasks: of a student of several tasks, each with its ``labels`` and ``thresholds``; empty: there is only one.
        thresholds: of a student that gives a text any number of labels: the probability above which it gives each
            label; empty: every text gets one label.
        examples: texts that a web page may offer.
        temperature: logits are divided by it before the softmax or, with ``thresholds``, the sigmoid.

    Raises:
        UserError: the folder is not a bundle, or the bundle is damaged or of a newer format; ``threads`` is not a whole
            number from 0 to ``MAX_THREADS``; there is no C compiler, or not enough memory.
    """

    def __init__(self, folder: str | Path, threads: int = 1) -> None:
        if type(threads) is not int or not 0 <= threads <= MAX_THREADS:
            hint = f"threads=2, or 0 for one per core; at most {MAX_THREADS}"
            raise UserError(f"a number of threads is needed, not {threads!r:.40}", "threads", hint)
        try:
            self._load(Path(folder))
        except MemoryError as error:
            raise UserError("not enough memory for this bundle", folder, "export a smaller student") from error
        except ValueError as error:  # the kernels' own check of the trie
            raise UserError(f"this bundle is broken: {error}", folder, EXPORT) from error
        self._threads = threads or os.cpu_count() or 1
        self._pools: dict[int, ThreadPoolExecutor] = {}  # by process: threads do not survive a fork

    def _load(self, folder: Path) -> None:
        bundle = read_bundle(folder)
        self.labels: tuple[str, ...] = tuple(bundle.card["labels"])
        self.thresholds: tuple[float, ...] = tuple(map(float, bundle.card.get("thresholds", ())))
        self.tasks: tuple[Task, ...] = tasks_of(bundle.card.get("tasks", ()))
        self._heads = heads_of(self)
        self.examples: tuple[str, ...] = tuple(bundle.card.get("examples", ()))
        self.temperature = float(bundle.card["temperature"])
        self._encoder = NativeEncoder(bundle.arrays, int(bundle.card["ngram_characters"]))
        self._network = StudentNetwork(bundle.card["network"], bundle.arrays)
        student = self._encoder.struct, self._network.struct, int(bundle.card["max_length"])
        self._logits_of_texts = functools.partial(library().distill_logits_of_texts, *student)
        self._class_of_text = functools.partial(library().distill_class_of_text, *student)
        self._one_row = ctypes.c_float * self._network.logits_buffer(1).size

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Logits in the order of the texts, shape (texts, classes).

        Raises:
            UserError: a text is not a string, or there is not enough memory for the texts.
        """
        if isinstance(texts, Utf8Texts):
            return self.logits_of_utf8(texts.content, texts.spans)
        texts = as_list(texts)
        if len(texts) == 1:
            logits = memoryview(self._class_and_logits(texts[0])[1])
            return np.frombuffer(logits, np.float32)[None, : len(self.labels)]
        try:
            packed = pack(texts)
        except MemoryError as error:
            raise out_of_memory() from error
        return self._logits(*packed)

    def logits_of_utf8(
        self, content: bytes | bytearray | memoryview | NDArray[np.uint8], spans: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Logits of the texts in a buffer, in the order of the spans, shape (texts, classes).

        Args:
            content: UTF-8. A byte that is not part of a valid character is read as U+FFFD; surrogates are allowed.
            spans: begin and end of each text in ``content``, in bytes, shape (texts, 2). They may overlap.

        Raises:
            UserError: a span is not a part of ``content``, or there is not enough memory for the texts.
        """
        array, spans = np.frombuffer(content, np.uint8), np.ascontiguousarray(spans)
        check_spans(spans, len(array))
        return self._logits(array, spans)

    def predict(self, texts: Sequence[str], *, reject_below: ByTask = 0.0, reject_label: str = "") -> list[Any] | Any:
        """The label of every text; ``reject_label`` where its probability is below ``reject_below``.

        With ``thresholds``, the list of the labels of every text, which may be empty; where the probability of the
        whole set is below ``reject_below``, the list holds ``reject_label`` or nothing. With ``tasks``, a dictionary of
        such lists by the task's name; texts are rejected in each task for itself, and ``reject_below`` is one number or
        a dictionary.

        Raises:
            UserError: as :meth:`logits`; ``reject_below`` is not from 0 to 1, or names something else than a task;
                ``reject_label`` is one of the labels.
        """
        if reject_below:
            check_rejection_of(self._heads, reject_below, reject_label)
        if self.tasks or self.thresholds or reject_below:
            probabilities = self.flat_proba(texts)
            found = labels_by_task(self._heads, probabilities, reject_below, reject_label)
            return found if self.tasks else found[""]
        if not isinstance(texts, Utf8Texts):
            texts = as_list(texts)
            if len(texts) == 1:
                return [self.labels[self._class_and_logits(texts[0])[0]]]
        return [self.labels[index] for index in self.logits(texts).argmax(axis=1).tolist()]

    def predict_proba(self, texts: Sequence[str]) -> Probabilities | Any:
        """Calibrated probabilities, shape (texts, classes), in the order of ``labels``.

        With ``thresholds``, each label's is independent of the others, and those of a text do not sum to 1. With
        ``tasks``, a dictionary of such arrays by the task's name, each in the order of the task's labels.
        """
        probabilities = self.flat_proba(texts)
        return by_task(self.tasks, probabilities) if self.tasks else probabilities

    def flat_proba(self, texts: Sequence[str]) -> Probabilities:
        """As :meth:`predict_proba`, those of all tasks in one array, shape (texts, outputs)."""
        logits = self.logits(texts)
        if self.tasks:
            return flat_proba(self.tasks, logits, self.temperature)
        return sigmoid(logits, self.temperature) if self.thresholds else softmax(logits, self.temperature)

    def top_k(self, texts: Sequence[str], k: int) -> list[list[tuple[str, float]]] | Any:
        """The ``k`` most probable labels of every text with their probabilities, the most probable first.

        With ``tasks``, a dictionary of such lists by the task's name; a task of fewer labels gives all of them.

        Raises:
            UserError: as :meth:`logits`; ``k`` is not a whole number from 1 to the number of labels.
        """
        check_top_k_of(self._heads, k)
        found = top_k_by_task(self._heads, self.flat_proba(texts), k)
        return found if self.tasks else found[""]

    def segment(self, texts: Sequence[str]) -> list[list[str]]:
        """The words of every text, before those outside the vocabulary are replaced by their characters."""
        return self._encoder.segment(as_list(texts))

    def _logits(self, content: bytes | NDArray[np.uint8], spans: NDArray[np.int64]) -> NDArray[np.float32]:
        """Logits of texts in ``content``, which every thread holds: one may go on when another has failed."""
        try:
            logits = self._network.logits_buffer(len(spans))
        except MemoryError as error:
            raise out_of_memory() from error
        size = len(spans)
        if size > MAX_THREAD_BATCH:  # batches of one size: no thread waits for a longer one
            rounds = -(-size // (MAX_THREAD_BATCH * self._threads))
            size = max(MIN_THREAD_BATCH, -(-size // (rounds * self._threads)))

        def compute(first: int) -> None:
            some = spans[first : first + size]
            texts = Texts(content if isinstance(content, bytes) else address(content), address(some), len(some))
            check_status(self._logits_of_texts(ctypes.byref(texts), address(logits[first:])))

        firsts = range(0, len(spans), size or 1)
        if self._threads > 1 and len(firsts) > 1:
            process = os.getpid()
            if process not in self._pools:
                self._pools[process] = ThreadPoolExecutor(self._threads)
            list(self._pools[process].map(compute, firsts))
        else:
            for first in firsts:
                compute(first)
        return logits[:, : len(self.labels)]

    def _class_and_logits(self, text: str) -> tuple[int, ctypes.Array[ctypes.c_float]]:
        """The most probable class of one text, and its logits; NumPy would take longer than the kernels do for one."""
        try:
            content, logits = encode(text), self._one_row()
        except MemoryError as error:
            raise out_of_memory() from error
        found = self._class_of_text(content, len(content), logits)
        if found < 0:
            raise out_of_memory()
        return found, logits


load = Runtime
