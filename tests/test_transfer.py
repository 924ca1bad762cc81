"""The cache of teacher logits: joined by example id, refused when stale, with a word why."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from distill.data import Example, example_id
from distill.transfer import teacher_logits

EXAMPLES = [Example(example_id(text), text, 0) for text in ("甲", "乙", "丙", "丁")]
MADE_BY = {"weights": "abc", "precision": "fp32"}


class Fake:
    """A teacher whose logits tell the text, and that counts how often it was asked."""

    asked = 0

    def logits(self, texts: list[str], what: str = "") -> Tensor:
        self.asked += 1
        return torch.tensor([[float(ord(text)), 1.0] for text in texts])


def expected(examples: list[Example]) -> Tensor:
    return Fake().logits([example.text for example in examples])


@pytest.fixture
def fake() -> Fake:
    return Fake()


def ask(fake: Fake, examples: list[Example], path: Path, **changes: str) -> Tensor:
    return teacher_logits(lambda: fake, {**MADE_BY, **changes}, examples, path)  # type: ignore[arg-type, return-value]


def test_logits_are_computed_once(fake: Fake, tmp_path: Path) -> None:
    for _ in range(2):
        assert ask(fake, EXAMPLES, tmp_path / "cache" / "logits.safetensors").equal(expected(EXAMPLES))
    assert fake.asked == 1
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["logits.safetensors"]


def test_logits_are_joined_by_id_not_by_place(fake: Fake, tmp_path: Path) -> None:
    ask(fake, EXAMPLES, tmp_path / "l")
    other_order = [EXAMPLES[place] for place in (2, 0, 3)]
    assert ask(fake, other_order, tmp_path / "l").equal(expected(other_order))
    assert fake.asked == 1


@pytest.mark.parametrize("changes", [{"weights": "abd"}, {"precision": "bf16"}, {"wordpieces": "new"}])
def test_a_stale_cache_is_refused_with_a_reason(
    changes: dict[str, str], fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(fake, EXAMPLES, tmp_path / "l")
    with caplog.at_level("INFO", "distill"):
        ask(fake, EXAMPLES, tmp_path / "l", **changes)
    assert fake.asked == 2 and f"stale ({next(iter(changes))} changed)" in caplog.text


def test_texts_that_the_cache_lacks(fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(fake, EXAMPLES[:2], tmp_path / "l")
    with caplog.at_level("INFO", "distill"):
        assert ask(fake, EXAMPLES, tmp_path / "l").equal(expected(EXAMPLES))
    assert "lacks 2 texts" in caplog.text


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x02\0\0\0\0\0\0\0{}"])
def test_a_broken_cache_is_made_anew(
    content: bytes, fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "l").write_bytes(content)
    with caplog.at_level("INFO", "distill"):
        assert ask(fake, EXAMPLES, tmp_path / "l").equal(expected(EXAMPLES))
    assert "the cache is broken" in caplog.text
