"""The student of Yao et al. 2019 (arXiv 1809.05679): two graph convolutions over words and documents.

It is transductive: from the labels and logits of some documents it learns the classes of all documents in its graph.
Once trained, it is a table of their logits and can label no other text.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from distill.config import StudentSettings
from distill.data.examples import example_id
from distill.errors import UserError, join_problems
from distill.models.student import SavedStudent, Student, StudentConfig
from distill.text.batching import Batch, ModelOutput, PackedIds
from distill.text.segmentation import Segmenter

SHOWN_CHARACTERS = 30  # of a text in a message


@dataclass(frozen=True)
class DocumentIndex:
    """The tokenizer: maps a text to its node in the graph. ``ids`` are the documents' example ids, in node order."""

    ids: tuple[int, ...]

    @functools.cached_property
    def node_by_id(self) -> dict[int, int]:
        """Node of every example id."""
        return {example: node for node, example in enumerate(self.ids)}

    def encode(self, texts: Sequence[str]) -> PackedIds:
        """One id per text: its document's node.

        Raises:
            UserError: a text is not in the graph.
        """
        nodes = [self.node_by_id.get(example_id(text), -1) for text in texts]
        unknown = [repr(text[:SHOWN_CHARACTERS]) for text, node in zip(texts, nodes, strict=True) if node < 0]
        if unknown:
            raise UserError(
                f"textgcn knows only the texts of its graph, not {join_problems(unknown)}",
                None,
                "another student or teacher, such as --student bilstm",
            )
        return PackedIds([[node] for node in nodes], 0)

    def save(self, folder: Path) -> dict[str, Any]:
        """Write nothing: the example ids are saved with the logits."""
        return {}


class TextGCN(Student):
    """Z = A ReLU(dropout(A W0)) W1.

    A is the normalised adjacency matrix. W0, one vector per node as the features are the identity, is ``embedding``.
    In the config ``words`` is the number of nodes and ``width`` that of hidden units.
    """

    def __init__(self, config: StudentConfig, adjacency: Any, documents: Tensor) -> None:
        super().__init__(config)
        nn.init.xavier_uniform_(self.embedding.weight)  # type: ignore[arg-type]
        self.classifier = nn.Linear(config.width, config.classes)
        self.starts: Tensor
        self.columns: Tensor
        self.values: Tensor
        self.documents: Tensor
        # CSR parts as separate buffers: PyTorch cannot copy and move all sparse tensors; they are not saved
        self.register_buffer("starts", torch.from_numpy(adjacency.indptr).long(), persistent=False)
        self.register_buffer("columns", torch.from_numpy(adjacency.indices).long(), persistent=False)
        self.register_buffer("values", torch.from_numpy(adjacency.data), persistent=False)
        self.register_buffer("documents", documents, persistent=False)  # (documents,) example ids
        self._cached: ModelOutput | None = None
        # takes the module as an argument: a copy of this network must clear its own cache
        self.register_load_state_dict_post_hook(lambda module, _: module._clear_cache())  # type: ignore[no-untyped-call]

    def vector(self, batch: Batch) -> Tensor:
        """Hidden layer of the documents, shape (batch, width)."""
        return self.output(batch).vector

    def output(self, batch: Batch) -> ModelOutput:
        """The documents' rows in the output of the whole graph; ``batch.ids`` (batch, 1) holds their nodes."""
        whole, nodes = self._whole_graph(), batch.ids[:, 0]
        return ModelOutput(whole.logits[nodes], whole.vector[nodes])

    def train(self, mode: bool = True) -> TextGCN:
        """Set the mode, as every module does, and clear the cached output."""
        self._clear_cache()
        super().train(mode)
        return self

    @torch.no_grad()
    def for_inference(self) -> SavedStudent:
        """The table of the documents' logits."""
        table = GraphTable(GraphTableConfig(len(self.documents), self.config.classes))
        table.documents.copy_(self.documents)
        table.logits.copy_(self.eval()._compute().logits)
        return table.to(self.documents.device).eval()

    def _whole_graph(self) -> ModelOutput:
        """The output of all documents, computed once in evaluation mode."""
        if self.training:
            return self._compute()
        if self._cached is None:
            self._cached = self._compute()
        return self._cached

    def _compute(self) -> ModelOutput:
        """Logits (documents, classes) and hidden layer (documents, width)."""
        embedding: Any = self.embedding
        hidden = self.dropout(self._propagate(embedding.weight)).relu()  # (nodes, width)
        projected = hidden @ self.classifier.weight.T  # (nodes, classes); before A, which then has fewer columns
        count = len(self.documents)  # documents come before words
        return ModelOutput(self._propagate(projected)[:count] + self.classifier.bias, hidden[:count])

    def _propagate(self, values: Tensor) -> Tensor:
        product: Tensor = _SymmetricProduct.apply(self.starts, self.columns, self.values, values)  # type: ignore[no-untyped-call]
        return product

    def _clear_cache(self) -> None:
        self._cached = None


class _SymmetricProduct(torch.autograd.Function):
    """A @ values for a symmetric sparse A, whose backward pass is the same product."""

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


class GraphTable(SavedStudent):
    """A trained graph: the logits of each of its documents."""

    config_class: ClassVar[type[Any]] = GraphTableConfig
    config: GraphTableConfig

    def __init__(self, config: GraphTableConfig) -> None:
        super().__init__()
        self.config = config
        self.documents: Tensor
        self.register_buffer("documents", torch.zeros(config.documents, dtype=torch.int64))  # example ids
        self.logits = nn.Parameter(torch.zeros(config.documents, config.classes), requires_grad=False)

    def output(self, batch: Batch) -> ModelOutput:
        """Logits (batch, classes) of documents' nodes (batch, 1), also in place of a vector."""
        logits = self.logits[batch.ids[:, 0]]
        return ModelOutput(logits, logits)

    def load_tokenizer(self, folder: Path, card: Mapping[str, Any], segmenter: Segmenter) -> DocumentIndex:
        """The index of the example ids that were saved with the logits."""
        return DocumentIndex(tuple(self.documents.tolist()))


def build(
    settings: StudentSettings, ids: Sequence[int], texts: Sequence[Sequence[str]], classes: int
) -> tuple[TextGCN, DocumentIndex]:
    """A new network over the graph of all texts that it will have to label.

    Args:
        settings: the student's; ``hidden``, ``max_length``, ``min_count`` and ``dropout`` are used.
        ids: the texts' example ids; if several texts share an id, the first is used.
        texts: words of the train, dev, test and unlabelled texts.
        classes: number of classes.
    """
    from distill.models.graph import adjacency_matrix  # imports scipy, which no other student needs

    settings = settings.with_defaults()
    words_by_id = {
        example: words[: settings.max_length] for example, words in zip(reversed(ids), reversed(texts), strict=True)
    }
    documents = tuple(dict.fromkeys(ids))
    counts = Counter(word for words in words_by_id.values() for word in words)
    frequent = sorted(word for word, count in counts.items() if count >= settings.min_count)
    id_by_word = {word: index for index, word in enumerate(frequent)}
    word_ids = [[id_by_word[word] for word in words_by_id[example] if word in id_by_word] for example in documents]
    nodes = len(documents) + len(frequent)
    config = StudentConfig(nodes, settings.hidden, settings.hidden, classes, settings.dropout)
    network = TextGCN(config, adjacency_matrix(word_ids, len(frequent)), torch.tensor(documents, dtype=torch.int64))
    return network, DocumentIndex(documents)
