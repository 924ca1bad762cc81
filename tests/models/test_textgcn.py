"""Edge weights computed by hand, graph convolutions against dense matrices, and the saved table of logits."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import titles

from distill.config import StudentSettings
from distill.data.examples import example_id
from distill.errors import UserError
from distill.models.build import parameter_groups
from distill.models.checkpoint import load_student_parts, save_student
from distill.models.graph import adjacency_matrix, normalised, positive_pmi, tf_idf
from distill.models.inference import predict_logits
from distill.models.textgcn import TextGCN, build
from distill.text.batching import PackedIds

TINY = [[0, 1, 1], [0, 2], [2, 2], []]  # word ids of four documents


def toy(hidden: int = 8, dropout: float = 0.0) -> tuple[TextGCN, list[str], list[str]]:
    """A network over the graph of 90 titles, the titles, and their labels."""
    torch.manual_seed(0)
    texts, labels = (list(column) for column in zip(*titles(0, 90), strict=True))
    settings = StudentSettings(architecture="textgcn", hidden=hidden, dropout=dropout)
    segmented = [[text[:2], *text[2:]] for text in texts]
    return build(settings, [example_id(text) for text in texts], segmented, 3)[0], texts, labels


def test_tf_idf_by_hand() -> None:
    twice, once = math.log(4 / 2), math.log(4 / 1)
    expected = [[twice, 2 * once, 0], [twice, 0, twice], [0, 0, 2 * twice], [0, 0, 0]]
    assert np.allclose(tf_idf(TINY, 3).toarray(), expected)


def test_pmi_by_hand() -> None:
    # four windows: {0, 1}, {0, 2}, {2}, {}; p(0) = p(2) = 1/2, p(1) = 1/4, p(0, 1) = p(0, 2) = 1/4
    pmi = positive_pmi(TINY, 3).toarray()
    assert pmi[0, 1] == pmi[1, 0] == pytest.approx(math.log((1 / 4) / (1 / 2 * 1 / 4)))
    assert pmi[0, 2] == 0  # log 1
    assert pmi[1, 2] == 0 and not pmi.diagonal().any()


def test_a_negative_pmi_is_not_an_edge() -> None:
    texts = [[0, 1], [0], [0], [1], [1]]  # p(0, 1) = 1/5 < 9/25
    assert positive_pmi(texts, 2).nnz == 0


def test_windows_slide_over_long_texts() -> None:
    text = list(range(22))  # three windows of 20: words 0 and 21 are never in one
    pmi = positive_pmi([text], 22).toarray()
    assert pmi[0, 21] == 0 and pmi[0, 1] == pytest.approx(math.log(1 / 3 / (1 / 3 * 2 / 3)))


def test_normalisation_by_hand() -> None:
    from scipy import sparse

    matrix = normalised(sparse.csr_array(np.array([[1.0, 3.0], [3.0, 1.0]]))).toarray()
    assert np.allclose(matrix, [[0.25, 0.75], [0.75, 0.25]])
    matrix = normalised(sparse.csr_array(np.array([[1.0, 3.0], [3.0, 6.0]]))).toarray()
    assert np.allclose(matrix, [[1 / 4, 3 / 6], [3 / 6, 6 / 9]])


def test_the_whole_graph() -> None:
    edges = np.eye(7)
    edges[:4, 4:] = tf_idf(TINY, 3).toarray()
    edges[4:, :4] = edges[:4, 4:].T
    edges[4:, 4:] += positive_pmi(TINY, 3).toarray()
    scale = 1 / np.sqrt(edges.sum(1))
    matrix = adjacency_matrix(TINY, 3)
    assert matrix.dtype == np.float32 and np.allclose(matrix.toarray(), scale[:, None] * edges * scale, atol=1e-6)
    assert np.allclose(matrix.toarray(), matrix.toarray().T)
    assert np.isclose(matrix.toarray()[3, 3], 1)  # a document without words has only its self-loop


def dense(network: TextGCN) -> torch.Tensor:
    size = network.config.words
    parts = (network.starts, network.columns, network.values)
    return torch.sparse_csr_tensor(*parts, (size, size), check_invariants=True).to_dense()


def test_logits_and_gradients_equal_those_of_dense_matrices() -> None:
    network, _, _ = toy()
    numbers = torch.tensor([[4], [0], [7]])
    output = network.train().output(PackedIds(numbers.tolist(), 0).batch(torch.arange(3)))
    matrix, weight = dense(network), network.embedding.weight.detach().clone().requires_grad_()
    hidden = (matrix @ weight).relu()
    logits = matrix @ hidden @ network.classifier.weight.T + network.classifier.bias
    assert torch.allclose(output.logits, logits[numbers[:, 0]], atol=1e-5)
    assert torch.allclose(output.vector, hidden[numbers[:, 0]], atol=1e-5)
    (output.logits.square().sum() + output.vector.sum()).backward()
    (logits[numbers[:, 0]].square().sum() + hidden[numbers[:, 0]].sum()).backward()
    assert torch.allclose(network.embedding.weight.grad, weight.grad, atol=1e-5)


def test_training_labels_texts_without_a_label() -> None:
    network, _, labels = toy(dropout=0.2)
    names = sorted(set(labels))
    targets = torch.tensor([names.index(label) for label in labels])
    settings = StudentSettings(architecture="textgcn", vector_learning_rate=0.05, learning_rate=0.05)
    optimizer = torch.optim.AdamW(parameter_groups(network, settings))
    batch = PackedIds([[number] for number in range(45)], 0).batch(torch.arange(45))  # half of the texts are labelled
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network.train()(batch), targets[:45]).backward()
        optimizer.step()
    everything = PackedIds([[number] for number in range(90)], 0)
    predicted = predict_logits(network, everything).argmax(1)
    assert (predicted[45:] == targets[45:]).double().mean() > 0.9


def test_in_evaluation_the_graph_is_computed_once_until_weights_change(monkeypatch: pytest.MonkeyPatch) -> None:
    network, _, _ = toy()
    computed = []
    monkeypatch.setattr(TextGCN, "_compute", lambda self, real=TextGCN._compute: computed.append(1) or real(self))
    batch = PackedIds([[3]], 0).batch(torch.tensor([0]))
    twin = copy.deepcopy(network).eval()
    network.eval()
    before = network(batch)
    assert torch.equal(network(batch), before) and len(computed) == 1
    network.load_state_dict({name: 2 * weights for name, weights in network.state_dict().items()})
    assert not torch.allclose(network(batch), before) and len(computed) == 2
    network.train().eval()
    network(batch)
    assert len(computed) == 3
    assert torch.equal(twin(batch), before)
    twin.load_state_dict(network.state_dict())
    assert torch.equal(twin(batch), network(batch))


def test_a_saved_student_is_a_table_of_logits(tmp_path: Path) -> None:
    network, texts, _ = toy()
    _, documents = build(
        StudentSettings(architecture="textgcn"), [example_id(text) for text in texts], [[text] for text in texts], 3
    )
    before = predict_logits(network, documents.encode(texts))
    save_student(tmp_path, network.for_inference(), documents, ["a", "b", "c"], 2.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.json", "student.safetensors"]
    model, read, labels, temperature, *_ = load_student_parts(tmp_path)
    assert (read, labels, temperature) == (documents, ("a", "b", "c"), 2.0)
    assert torch.allclose(predict_logits(model, read.encode(texts[::-1])), before.flip(0), atol=1e-6)
    assert predict_logits(model, read.encode([f" {texts[5]} "])).shape == (1, 3)  # outer white space is ignored


def test_a_text_outside_the_graph() -> None:
    _, documents = build(StudentSettings(architecture="textgcn"), [example_id("球队")], [["球队"]], 2)
    with pytest.raises(UserError, match=r"knows only the texts of its graph, not '从未见过'.*--student bilstm"):
        documents.encode(["球队", "从未见过"])
    with pytest.raises(UserError, match="; and 4 more -> another student"):
        documents.encode([f"新{number}" for number in range(9)])


def test_repeated_texts_share_a_node_and_rare_words_have_none() -> None:
    network, documents = build(
        StudentSettings(architecture="textgcn", hidden=4, max_length=2),
        [7, 8, 7],
        [["好", "书"], ["好", "新", "书"], ["不", "不"]],
        2,
    )
    assert documents.ids == (7, 8)
    assert network.config.words == 2 + 1  # 好; 书 is truncated from the second text, 不 occurs in a repeat


def test_a_missing_file_of_a_graph(tmp_path: Path) -> None:
    (tmp_path / "student.json").write_text('{"architecture": "textgcn"}', "utf-8")
    with pytest.raises(UserError, match=r"not a student's folder: student\.safetensors missing"):
        load_student_parts(tmp_path)
