"""The student of Yao et al. 2019 (arXiv 1809.05679): two graph convolutions over words and documents.

It is transductive: from the labels and logits of some documents it learns about all documents of its graph. Trained,
it is a table of their logits and knows no other text.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from distill.config import StudentSettings
from distill.data.examples import example_id
from distill.errors import UserError, join_faults
from distill.models.student import NetworkConfig, Student
from distill.text.batching import Batch, ModelOutput, PackedIds

SHOWN = 30  # characters of a text in a message


@dataclass(frozen=True)
class Documents:
    """The input: raw texts become their numbers in the graph. ``ids`` are the documents' example ids, in order."""

    ids: tuple[int, ...]

    @functools.cached_property
    def numbers(self) -> dict[int, int]:
        """Example id to number."""
        return {example: number for number, example in enumerate(self.ids)}

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """One id a text, its document's number.

        Raises:
            UserError: a text is not in the graph.
        """
        numbers = [self.numbers.get(example_id(text), -1) for text in texts]
        unknown = [repr(text[:SHOWN]) for text, number in zip(texts, numbers, strict=True) if number < 0]
        if unknown:
            raise UserError(
                f"textgcn knows only the texts of its graph, not {join_faults(unknown)}",
                None,
                "another student or teacher, such as --student bilstm",
            )
        return PackedIds([[number] for number in numbers], 0)


class TextGCN(Student):
    """Z = A ReLU(dropout(A W0)) W1; W0 (the nodes' vectors, as features are the identity) is ``embedding``.

    ``words`` of the config is the number of nodes, ``width`` that of the hidden layer.
    """

    def __init__(self, config: NetworkConfig, matrix: Any, documents: Tensor) -> None:
        super().__init__(config)
        nn.init.xavier_uniform_(self.embedding.weight)  # type: ignore[arg-type]
        self.classifier = nn.Linear(config.width, config.classes)
        self.starts: Tensor
        self.columns: Tensor
        self.values: Tensor
        self.documents: Tensor
        # kept as parts, for copies and moves of sparse tensors are half supported; and not saved
        self.register_buffer("starts", torch.from_numpy(matrix.indptr).long(), persistent=False)
        self.register_buffer("columns", torch.from_numpy(matrix.indices).long(), persistent=False)
        self.register_buffer("values", torch.from_numpy(matrix.data), persistent=False)
        self.register_buffer("documents", documents, persistent=False)  # (documents,) example ids
        self._kept: ModelOutput | None = None
        # by argument, not by self: a copy of this network must forget its own
        self.register_load_state_dict_post_hook(lambda module, _: module._forget())  # type: ignore[no-untyped-call]

    def vector(self, batch: Batch) -> Tensor:
        """The hidden layer's rows of the documents, shape (batch, width)."""
        return self.answer(batch).vector

    def answer(self, batch: Batch) -> ModelOutput:
        """Rows of the whole graph's logits and hidden layer; ``batch.ids`` (batch, 1) are documents' numbers."""
        whole, numbers = self._whole(), batch.ids[:, 0]
        return ModelOutput(whole.logits[numbers], whole.vector[numbers])

    def train(self, mode: bool = True) -> TextGCN:
        """As ever; what was computed for asking is forgotten."""
        self._forget()
        super().train(mode)
        return self

    @torch.no_grad()
    def finished(self) -> nn.Module:
        """The table of the documents' logits."""
        table = GraphTable(GraphTableConfig(len(self.documents), self.config.classes))
        table.documents.copy_(self.documents)
        table.logits.copy_(self.eval()._computed().logits)
        return table.to(self.documents.device).eval()

    def _whole(self) -> ModelOutput:
        if self.training:
            return self._computed()
        if self._kept is None:
            self._kept = self._computed()
        return self._kept

    def _computed(self) -> ModelOutput:
        """Logits (documents, classes) and hidden layer (documents, width) of the whole graph."""
        weights: Any = self.embedding
        hidden = self.dropout(self._spread(weights.weight)).relu()  # (nodes, width)
        narrow = hidden @ self.classifier.weight.T  # (nodes, classes); first, so that A meets few columns
        count = len(self.documents)  # documents come before words
        return ModelOutput(self._spread(narrow)[:count] + self.classifier.bias, hidden[:count])

    def _spread(self, values: Tensor) -> Tensor:
        spread: Tensor = _Spread.apply(self.starts, self.columns, self.values, values)  # type: ignore[no-untyped-call]
        return spread

    def _forget(self) -> None:
        self._kept = None


class _Spread(torch.autograd.Function):
    """A @ values for a symmetric sparse A, so that the way back is the same product."""

    @staticmethod
    def forward(ctx: Any, starts: Tensor, columns: Tensor, weights: Tensor, values: Tensor) -> Tensor:
        ctx.save_for_backward(starts, columns, weights)
        return _product(starts, columns, weights, values)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, Tensor]:
        starts, columns, weights = ctx.saved_tensors
        return None, None, None, _product(starts, columns, weights, gradients[0].contiguous())


def _product(starts: Tensor, columns: Tensor, weights: Tensor, values: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        matrix = torch.sparse_csr_tensor(starts, columns, weights, (len(values), len(values)), check_invariants=False)
    return matrix @ values


@dataclass(frozen=True)
class GraphTableConfig:
    """Sizes of the table."""

    documents: int
    classes: int


class GraphTable(nn.Module):
    """A trained graph: the logits of each of its documents."""

    def __init__(self, config: GraphTableConfig) -> None:
        super().__init__()
        self.config = config
        self.documents: Tensor
        self.register_buffer("documents", torch.zeros(config.documents, dtype=torch.int64))  # example ids
        self.logits = nn.Parameter(torch.zeros(config.documents, config.classes), requires_grad=False)

    def answer(self, batch: Batch) -> ModelOutput:
        """Logits (batch, classes) of documents' numbers (batch, 1); there is no other vector."""
        logits = self.logits[batch.ids[:, 0]]
        return ModelOutput(logits, logits)

    def forward(self, batch: Batch) -> Tensor:
        """Logits, shape (batch, classes)."""
        return self.answer(batch).logits


def build(
    settings: StudentSettings, ids: Sequence[int], texts: Sequence[Sequence[str]], classes: int
) -> tuple[TextGCN, Documents]:
    """A new graph for training, of every text that will be asked about.

    Args:
        settings: of the student; ``hidden``, ``max_length``, ``min_count`` and ``dropout`` count.
        ids: the texts' example ids; of equal ids the first text is kept.
        texts: words of the train, dev, test and unlabelled texts.
        classes: number of classes.
    """
    from distill.models.graph import graph  # scipy, which no other student needs

    settings = settings.suited()
    nodes = {
        example: words[: settings.max_length] for example, words in zip(reversed(ids), reversed(texts), strict=True)
    }
    documents = tuple(dict.fromkeys(ids))
    counts = Counter(word for words in nodes.values() for word in words)
    frequent = sorted(word for word, count in counts.items() if count >= settings.min_count)
    numbers = {word: number for number, word in enumerate(frequent)}
    numbered = [[numbers[word] for word in nodes[example] if word in numbers] for example in documents]
    config = NetworkConfig(len(documents) + len(numbers), settings.hidden, settings.hidden, classes, settings.dropout)
    network = TextGCN(config, graph(numbered, len(numbers)), torch.tensor(documents, dtype=torch.int64))
    return network, Documents(documents)
