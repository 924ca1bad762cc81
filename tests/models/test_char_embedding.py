"""Composed word vectors: computed by hand, and unchanged by folding."""

from __future__ import annotations

import numpy as np
import torch

from distill.config import StudentSettings
from distill.models.build import build_student, parameter_groups
from distill.models.char_embedding import CharComposedEmbedding
from distill.models.inference import predict_logits
from distill.text.batching import PackedIds

WORDS = ("<pad>", "<unk>", "北京", "北", "京城大学堂")


def rows() -> np.ndarray:
    matrix = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    matrix[0] = 0
    return matrix


def test_a_vector_is_the_sum_of_word_vector_and_mean_character_vector() -> None:
    embedding = CharComposedEmbedding(rows(), WORDS)
    assert torch.equal(embedding(torch.arange(5)), torch.from_numpy(rows()))  # before training
    torch.nn.init.normal_(embedding.characters.weight[1:])
    characters = dict(zip(sorted("北京城大学"), embedding.characters.weight[1:], strict=True))
    vectors = embedding(torch.tensor([[2, 4], [3, 0]]))
    words = torch.from_numpy(rows())
    assert torch.allclose(vectors[0, 0], words[2] + (characters["北"] + characters["京"]) / 2)
    assert torch.allclose(vectors[0, 1], words[4] + sum(characters[char] for char in "京城大学") / 4)
    assert torch.equal(vectors[1, 0], words[3]) and torch.equal(vectors[1, 1], words[0])


def test_folding_changes_no_logits() -> None:
    torch.manual_seed(0)
    student = build_student(StudentSettings(hidden=4, ngrams=0), rows(), WORDS, 2)
    torch.nn.init.normal_(student.embedding.characters.weight[1:])
    ids = PackedIds([[2, 3], [4], [1, 1, 2]], 0)
    before = predict_logits(student, ids)
    assert torch.allclose(predict_logits(student.for_inference(), ids), before, atol=1e-6)
    assert [name for name in student.state_dict() if name.startswith("embedding.")] == ["embedding.weight"]


def test_word_vectors_have_their_own_learning_rate() -> None:
    settings = StudentSettings(ngrams=0, learning_rate=1.0, vector_learning_rate=2.0)
    student = build_student(settings, rows(), WORDS, 2)
    groups = parameter_groups(student, settings)
    assert sum(len(group["params"]) for group in groups) == len(list(student.parameters()))
    rates = {id(p): group["lr"] for group in groups for p in group["params"]}
    for name, parameter in student.named_parameters():
        assert rates[id(parameter)] == (2.0 if name.startswith("embedding") else 1.0)
