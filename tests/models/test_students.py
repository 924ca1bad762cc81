"""Students over words: padding, n-grams, noise in training only, folding, saving and loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WORD_STUDENTS

from distill.config import StudentSettings
from distill.config.models import CELLS
from distill.errors import UserError
from distill.models import ngram_embedding
from distill.models.build import build_student, ngram_buckets, parameter_groups
from distill.models.checkpoint import load_student_parts, save_student
from distill.models.inference import predict_logits
from distill.models.student import Student
from distill.models.tokenizer import WordTokenizer
from distill.runtime.constants import MASKED
from distill.text.batching import PackedIds
from distill.text.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("<pad>", "<unk>", *"北京天安门球队手机好", "北京", "手机"))
TEXTS = ["北京天安门", "好", "手机好手机好北京球队", "", "没有", f"北京{MASKED}手机", " "]
NETWORKS: list[dict[str, Any]] = [
    *({"architecture": name, "ngrams": ngrams} for name in WORD_STUDENTS for ngrams in (0, 64)),
    *({"architecture": "bilstm", "ngrams": 64, "cell": cell} for cell in CELLS if cell != "lstm"),
    {"architecture": "bilstm", "ngrams": 64, "input": "sentence"},
]
every_network = pytest.mark.parametrize(
    "config", NETWORKS, ids=lambda config: "-".join(str(value) for value in config.values())
)


def new_student(config: dict[str, Any], **more: Any) -> tuple[Student, WordTokenizer]:
    """A student with vectors that all differ, and its tokenizer; some n-grams have no row."""
    torch.manual_seed(0)
    settings = StudentSettings(**{"hidden": 5, "word_dropout": 0.0, **config, **more})
    tokenizer = WordTokenizer(VOCABULARY, 16, ngram_buckets(settings))
    rows = np.random.default_rng(0).normal(size=(len(VOCABULARY), 6)).astype(np.float32)
    rows[0] = 0
    student = build_student(settings, rows, VOCABULARY.words, 3, tokenizer.encode(TEXTS[:3]))
    torch.nn.init.normal_(student.embedding.characters.weight[1:])
    if student.ngrams is not None:
        torch.nn.init.normal_(student.ngrams.table.weight[1:])
    return student.eval(), tokenizer


def logits_of(student: torch.nn.Module, tokenizer: Any, texts: list[str]) -> torch.Tensor:
    return predict_logits(student, tokenizer.encode(texts))


@every_network
def test_a_prediction_does_not_depend_on_padding(config: dict[str, Any]) -> None:
    student, tokenizer = new_student(config)
    together = logits_of(student, tokenizer, TEXTS)
    assert together.isfinite().all()
    for text, logits in zip(TEXTS, together, strict=True):
        assert torch.allclose(logits_of(student, tokenizer, [text])[0], logits, atol=1e-5)


@every_network
def test_a_prediction_does_not_depend_on_the_vector_of_padding(config: dict[str, Any]) -> None:
    student, tokenizer = new_student(config)
    before = logits_of(student, tokenizer, TEXTS)
    student.embedding.words.weight.data[0] = 1e3
    assert torch.allclose(logits_of(student, tokenizer, TEXTS), before, atol=1e-5)


@every_network
def test_the_output_has_the_input_of_the_classifier(config: dict[str, Any]) -> None:
    student, tokenizer = new_student(config)
    batch = tokenizer.encode(TEXTS).batch(torch.arange(len(TEXTS)))
    output = student.output(batch)
    assert output.vector.shape == (len(TEXTS), student.classifier.in_features)
    assert torch.allclose(student.classifier(output.vector), output.logits)
    assert torch.equal(student(batch), output.logits)


@every_network
def test_folding_changes_no_logits(config: dict[str, Any]) -> None:
    student, tokenizer = new_student(config)
    before = logits_of(student, tokenizer, TEXTS)
    finished = student.for_inference()
    assert torch.allclose(logits_of(finished, tokenizer, TEXTS), before, atol=1e-5)
    assert [name for name in finished.state_dict() if name.startswith("embedding.")] == ["embedding.weight"]


@every_network
def test_save_and_load(config: dict[str, Any], tmp_path: Path) -> None:
    student, tokenizer = new_student(config, word_dropout=0.1)
    finished = student.for_inference()
    save_student(tmp_path, finished, tokenizer, ["a", "b", "c"], 1.5)
    model, loaded, labels, temperature, *_ = load_student_parts(tmp_path)
    assert (loaded, labels, temperature) == (tokenizer, ("a", "b", "c"), 1.5)
    assert torch.equal(logits_of(model, loaded, TEXTS), logits_of(finished, tokenizer, TEXTS)) and not model.training


def test_a_folder_of_an_older_version_loads(tmp_path: Path) -> None:
    student, tokenizer = new_student(NETWORKS[0])
    before = logits_of(student.for_inference(), tokenizer, TEXTS)
    save_student(tmp_path, student, tokenizer, ["a", "b", "c"])
    card = json.loads((tmp_path / "student.json").read_text("utf-8"))
    fields = ("words", "width", "hidden", "classes", "dropout", "sentence")
    card = {**card, "config": {name: card["config"][name] for name in fields}}
    del card["temperature"]
    (tmp_path / "student.json").write_text(json.dumps(card), "utf-8")
    model, loaded, _, temperature, *_ = load_student_parts(tmp_path)
    assert temperature == 1.0 and torch.equal(logits_of(model, loaded, TEXTS), before)


@pytest.mark.parametrize("card", ["{", "[]", "{}", '{"architecture": "rnn"}', '{"architecture": "average"}'])
def test_broken_cards(card: str, tmp_path: Path) -> None:
    student, tokenizer = new_student(NETWORKS[0])
    save_student(tmp_path, student.for_inference(), tokenizer, ["a", "b", "c"])
    (tmp_path / "student.json").write_text(card, "utf-8")
    with pytest.raises(UserError, match="this student is broken"):
        load_student_parts(tmp_path)


def test_a_text_shorter_than_every_filter() -> None:
    student, tokenizer = new_student({"architecture": "textcnn", "ngrams": 0})
    vector = student.embedding(torch.tensor([VOCABULARY.ids["好"]]))  # (1, width)
    by_hand = [(vector @ filters.weight[:, :, 0].T + filters.bias).relu() for filters in student.convolutions]
    batch = tokenizer.encode(["好"]).batch(torch.tensor([0]))
    assert torch.allclose(student.vector(batch), torch.cat(by_hand, dim=1), atol=1e-6)


def test_a_filter_depends_on_the_order_of_words() -> None:
    student, tokenizer = new_student({"architecture": "textcnn", "ngrams": 0})
    one, other = logits_of(student, tokenizer, ["天安门好", "门安天好"])
    assert not torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("architecture", ["bilstm", "textcnn"])
def test_the_mean_of_ngrams_with_a_row_is_appended(architecture: str) -> None:
    student, tokenizer = new_student({"architecture": architecture, "ngrams": 64})
    inputs = tokenizer.encode(["北京没"])
    rows = [int(student.ngrams.row_of[bucket]) for bucket in inputs.ngrams.flat.tolist()]
    with_row = [row for row in rows if row]
    assert with_row and len(with_row) < len(rows)  # some have no row and are ignored
    mean = student.ngrams.table.weight[with_row].mean(0)
    assert torch.allclose(student.vector(inputs.batch(torch.tensor([0])))[0, -6:], mean, atol=1e-6)


def test_pooling_of_the_average_student_by_hand() -> None:
    student, tokenizer = new_student({"architecture": "average", "ngrams": 64})
    inputs = tokenizer.encode(["天安门好"])
    batch = inputs.batch(torch.tensor([0]))
    vectors = student.embedding(inputs.flat.long())
    rows = student.ngrams.row_of[inputs.ngrams.flat.long()].long()
    grams = student.ngrams.table.weight[rows[rows > 0]]
    pooled = torch.cat([vectors.mean(0), vectors.amax(0), grams.mean(0), grams.amax(0)])
    assert torch.allclose(student.vector(batch)[0], student.layer(pooled).relu(), atol=1e-6)


def test_only_frequent_buckets_get_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    train = PackedIds([[1], [2]], 0, PackedIds([[5, 7, 7, 0, 9, 9, 9], [0, 5, 5, 5, 3]], 0))
    assert ngram_embedding.rows_of_buckets(12, train.ngrams).tolist() == [0, 0, 0, 0, 0, 1, 0, 2, 0, 3, 0, 0]
    monkeypatch.setattr(ngram_embedding, "MAX_ROWS", 3)
    assert ngram_embedding.rows_of_buckets(12, train.ngrams).tolist() == [0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]
    assert ngram_embedding.rows_of_buckets(4, None).tolist() == [0, 1, 2, 3]


def test_training_does_not_depend_on_rows_that_do_not_occur() -> None:
    """The reduced table learns the same as a full one: buckets that do not occur have no gradient."""
    reduced, _ = new_student({"architecture": "average", "ngrams": 64}, dropout=0.0)
    full = new_student({"architecture": "average", "ngrams": 64}, dropout=0.0)[0]
    full.ngrams = ngram_embedding.NgramEmbedding(64, 64, 6)
    full.ngrams.row_of.copy_(torch.arange(64))
    used = reduced.ngrams.row_of > 0
    full.ngrams.table.weight.data[used] = reduced.ngrams.table.weight.data[reduced.ngrams.row_of[used].long()]
    bucket = int(used.nonzero()[0])
    batch = PackedIds([[3, 4]], 0, PackedIds([[bucket]], 0)).batch(torch.tensor([0]))
    for student in (reduced, full):
        student.train()(batch).square().sum().backward()
    row = int(reduced.ngrams.row_of[bucket])
    gradient = reduced.ngrams.table.weight.grad
    assert gradient[row].abs().sum() > 0
    assert torch.allclose(gradient[row], full.ngrams.table.weight.grad[bucket])
    assert gradient[0].abs().sum() == 0


@pytest.mark.parametrize("noise", [{"word_dropout": 0.5}, {"vector_noise": 1.0}, {"dropout": 0.5}])
@pytest.mark.parametrize("architecture", WORD_STUDENTS)
def test_noise_only_in_training(architecture: str, noise: dict[str, float]) -> None:
    student, tokenizer = new_student({"architecture": architecture, "ngrams": 64, "dropout": 0.0, **noise})
    quiet, _ = new_student({"architecture": architecture, "ngrams": 64, "dropout": 0.0})
    batch = tokenizer.encode(TEXTS).batch(torch.arange(len(TEXTS)))
    assert torch.equal(student(batch), quiet(batch))
    student.train()
    assert not torch.allclose(student(batch), student(batch), atol=1e-3)


def test_the_noise_has_the_size_of_the_settings() -> None:
    student, _ = new_student({"architecture": "average", "ngrams": 0, "dropout": 0.0}, word_dropout=0.3)
    batch = PackedIds([[5] * 20_000], 0).batch(torch.tensor([0]))
    unknown = (student.train().embed(batch) == student.embedding(torch.tensor(1))).all(-1)
    assert unknown.double().mean().item() == pytest.approx(0.3, abs=0.02)
    noisy, _ = new_student({"architecture": "average", "ngrams": 0, "dropout": 0.0}, vector_noise=0.7)
    assert (noisy.train().embed(batch) - noisy.embedding(batch.ids)).std().item() == pytest.approx(0.7, abs=0.02)


def test_ngram_buckets() -> None:
    assert ngram_buckets(StudentSettings()) == ngram_buckets(StudentSettings(architecture="average")) == 2**18
    assert ngram_buckets(StudentSettings(ngrams=0)) == 0
    assert ngram_buckets(StudentSettings(ngrams=100)) == 100
    assert ngram_buckets(StudentSettings(ngrams=1)) == 2  # the first is for padding
    assert ngram_buckets(StudentSettings(architecture="textgcn", ngrams=100)) == 0


def test_ngram_vectors_have_the_learning_rate_of_vectors() -> None:
    student, _ = new_student({"architecture": "average", "ngrams": 64})
    groups = parameter_groups(student, StudentSettings(learning_rate=1.0, vector_learning_rate=2.0))
    rates = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in student.named_parameters():
        assert rates[id(parameter)] == (2.0 if name.startswith(("embedding", "ngrams")) else 1.0), name


def test_ngrams_need_the_raw_texts() -> None:
    tokenizer = WordTokenizer(VOCABULARY, 4, 64)
    with pytest.raises(ValueError, match="n-grams need each"):
        tokenizer.encode_segmented([["北京"]])
    student, _ = new_student({"architecture": "average", "ngrams": 64})
    with pytest.raises(ValueError, match="n-grams are needed"):
        logits_of(student, WordTokenizer(VOCABULARY, 4), ["北京"])


def test_the_number_of_ngrams_is_bounded() -> None:
    inputs = WordTokenizer(VOCABULARY, 2, 64).encode(["北京天安门" * 1000, ""])
    assert inputs.ngrams.lengths.tolist() == [8 + 9 + 8, 1] and inputs.lengths.tolist() == [2, 1]


def test_a_graph_student_is_not_built_over_words() -> None:
    with pytest.raises(ValueError, match="textgcn is not built over words"):
        new_student({"architecture": "textgcn"})
