"""The registry of students.

A new student takes one module in :mod:`distill.models` and one line in ``STUDENTS``. The module defines a subclass of
:class:`distill.models.student.Student`, with its config dataclass above it; the line names that class. It is imported
when it is first used (:mod:`distill.models.build`), so that reading the settings does not load PyTorch.

To export the student as a bundle, which runs without PyTorch, implement ``Student.bundle_network``, describe the arrays
in :mod:`distill.runtime.schema`, and add a module and a line under the same name to :mod:`distill.runtime.networks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# chosen on dev, see benchmarks/LOG.md; the epochs depend on the number of texts (distill.training.defaults)
WORD_DEFAULTS: Mapping[str, float] = {
    "hidden": 128,
    "ngrams": 2**18,
    "dropout": 0.2,
    "word_dropout": 0.3,
    "learning_rate": 2e-3,
    "vector_learning_rate": 1e-2,
    "batch_size": 64,
}
GRAPH_DEFAULTS: Mapping[str, float] = {  # Yao et al. 2019; an epoch is one step
    "hidden": 200,
    "ngrams": 0,
    "dropout": 0.5,
    "word_dropout": 0.0,
    "epochs": 200,
    "learning_rate": 2e-2,
    "vector_learning_rate": 2e-2,
    "batch_size": 2**24,
}


@dataclass(frozen=True)
class StudentKind:
    """One architecture.

    Args:
        network: its class as "module:Class". If the saved network differs from the trained one, this is the saved one.
        defaults: values of the student's settings that are left at ``FROM_DATA``.
        transductive: whether it is trained on a graph of all texts and can label only those; if not, it is built over
            word vectors and labels any text.
    """

    network: str
    defaults: Mapping[str, float]
    transductive: bool = False


STUDENTS: dict[str, StudentKind] = {
    "bilstm": StudentKind("distill.models.bilstm:BiLSTM", WORD_DEFAULTS),
    "textcnn": StudentKind("distill.models.textcnn:TextCNN", WORD_DEFAULTS),
    "average": StudentKind("distill.models.average:Average", WORD_DEFAULTS),
    "textgcn": StudentKind("distill.models.textgcn:GraphTable", GRAPH_DEFAULTS, transductive=True),
}
