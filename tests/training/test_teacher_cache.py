"""The cache of teacher outputs: sharded, joined by example id, resumed, and replaced with a reason when stale."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_distributed import in_group
from torch import Tensor

from distill.data import Example, example_id
from distill.training import distributed, teacher_cache
from distill.training.teacher_cache import TeacherCache

EXAMPLES = [Example(example_id(text), text, 0) for text in "甲乙丙丁戊"]
SHARD_NAME = r"shard-\d{5}-[0-9a-f]{16}\.safetensors"
MADE_BY = {"weights": "abc", "precision": "fp32"}


class FakeTeacher:
    """A teacher whose output encodes the text; counts its loads, records its calls, and may fail."""

    def __init__(self) -> None:
        self.loads = 0
        self.texts: list[str] = []
        self.progress_labels: list[str] = []
        self.fails_after = 99

    def rows(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(ord(text)), 1.0] for text in texts])

    def load(self) -> teacher_cache.TeacherFunction:
        self.loads += 1

        def output(texts: Sequence[str], progress_label: str) -> Tensor:
            if len(self.progress_labels) == self.fails_after:
                raise KeyboardInterrupt
            self.progress_labels.append(progress_label)
            self.texts += texts
            return self.rows(texts)

        return output

    def expected(self, examples: Sequence[Example]) -> Tensor:
        return self.rows([example.text for example in examples])


class VectorTeacher(FakeTeacher):
    """Outputs of shape (layers=3, width=4) in half precision."""

    def rows(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([torch.full((3, 4), ord(text) % 100, dtype=torch.float16) for text in texts])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> FakeTeacher:
    monkeypatch.setattr(teacher_cache, "SHARD_SIZE", 2)
    caplog.set_level("INFO", "distill")
    return FakeTeacher()


def outputs(fake: FakeTeacher, examples: Sequence[Example], folder: Path, **changes: str) -> Tensor:
    return TeacherCache(folder, {**MADE_BY, **changes}, fake.load).outputs(examples)


def numbers(folder: Path) -> list[int]:
    """Numbers of the shards; there must be no other file than these and the manifest."""
    names = sorted(path.name for path in folder.iterdir())
    assert names[0] == "manifest.json" and all(re.fullmatch(SHARD_NAME, name) for name in names[1:])
    return [int(name.split("-")[1]) for name in names[1:]]


def test_every_text_is_computed_once(fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "cache" / "logits"
    for _ in range(2):
        assert outputs(fake, EXAMPLES, folder).equal(fake.expected(EXAMPLES))
    assert fake.loads == 1 and fake.texts == list("甲乙丙丁戊")
    assert fake.progress_labels == [f"teacher labels, part {part} of 3" for part in (1, 2, 3)]
    assert numbers(folder) == [0, 1, 2]
    messages = [message.split(", ")[0] for message in caplog.messages]
    assert messages == [
        "teacher logits: 5 texts to label",
        "teacher logits: 5 texts labelled",
        f"teacher logits: complete in the cache ({folder})",
    ]
    assert caplog.messages[0].endswith(", 0 in the cache") and caplog.messages[1].endswith(" texts/s")


def test_outputs_are_joined_by_id_and_not_by_position(fake: FakeTeacher, tmp_path: Path) -> None:
    outputs(fake, EXAMPLES, tmp_path)
    for indices in ((4, 2, 0, 3), (1,), (3, 1, 3, 3), ()):
        examples = [EXAMPLES[index] for index in indices]
        assert outputs(fake, examples, tmp_path).tolist() == fake.expected(examples).tolist()
    assert fake.loads == 1


def test_no_texts(fake: FakeTeacher, tmp_path: Path) -> None:
    assert len(outputs(fake, [], tmp_path)) == 0 and fake.loads == 0


def test_a_killed_run_continues_after_its_last_shard(
    fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fake.fails_after = 1
    with pytest.raises(KeyboardInterrupt):
        outputs(fake, EXAMPLES, tmp_path)
    assert fake.texts == ["甲", "乙"]
    again = FakeTeacher()
    assert outputs(again, EXAMPLES, tmp_path).equal(again.expected(EXAMPLES))
    assert again.texts == ["丙", "丁", "戊"]
    assert "teacher logits: 3 texts to label, 2 in the cache" in caplog.text


def test_a_transfer_set_that_grew_computes_its_new_texts_only(fake: FakeTeacher, tmp_path: Path) -> None:
    outputs(fake, EXAMPLES[1:4], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert outputs(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.texts == ["乙", "丙", "丁", "甲", "戊"] and fake.progress_labels[-1] == "teacher labels"
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())


def test_repeated_ids_are_computed_once(fake: FakeTeacher, tmp_path: Path) -> None:
    examples = [EXAMPLES[index] for index in (0, 1, 0, 0, 1, 2)]
    assert outputs(fake, examples, tmp_path).equal(fake.expected(examples))
    assert fake.texts == ["甲", "乙", "丙"]


def test_outputs_of_any_shape_and_dtype(fake: FakeTeacher, tmp_path: Path) -> None:
    hints = VectorTeacher()
    for _ in range(2):
        rows = outputs(hints, EXAMPLES[::-1], tmp_path)
        assert rows.dtype == torch.float16 and rows.shape == (5, 3, 4)
        assert rows.equal(hints.expected(EXAMPLES[::-1]))
    assert hints.loads == 1


@pytest.mark.parametrize("changes", [{"weights": "abd"}, {"precision": "bf16"}, {"wordpieces": "new"}])
def test_a_stale_cache_is_computed_again_and_the_reason_logged(
    changes: dict[str, str], fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs(fake, EXAMPLES, tmp_path)
    outputs(fake, EXAMPLES[:1], tmp_path, **changes)
    assert fake.loads == 2 and len(list(tmp_path.glob("shard-*"))) == 1
    assert f"teacher logits: the cache is stale ({next(iter(changes))} changed), computed again" in caplog.text


def test_a_cache_with_an_additional_provenance_key_is_stale(
    fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs(fake, EXAMPLES, tmp_path, layers="3,6")
    outputs(fake, EXAMPLES, tmp_path)
    assert fake.loads == 2 and "stale (layers changed)" in caplog.text


def test_another_version_is_stale(
    fake: FakeTeacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outputs(fake, EXAMPLES, tmp_path)
    monkeypatch.setattr(teacher_cache, "VERSION", 99)
    outputs(fake, EXAMPLES, tmp_path)
    assert fake.loads == 2 and "stale (version changed)" in caplog.text


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"version": 2, "made_by": 3}'])
def test_shards_without_a_valid_manifest_are_computed_again(
    content: str | None, fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs(fake, EXAMPLES, tmp_path)
    if content is None:
        (tmp_path / "manifest.json").unlink()
    else:
        (tmp_path / "manifest.json").write_text(content, "utf-8")
    assert outputs(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.loads == 2 and "the cache is broken, computed again" in caplog.text


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def drop_a_row(path: Path) -> None:
    content = load_file(path)
    save_file({"ids": content["ids"], "rows": content["rows"][:1].contiguous()}, path)


BREAKS = {
    "empty": lambda path: path.write_bytes(b""),
    "no header": lambda path: path.write_bytes(b"12345678"),
    "no tensors": lambda path: path.write_bytes(b"\x02\0\0\0\0\0\0\0{}"),
    "truncated": truncate,
    "too few rows": drop_a_row,
    "a scalar": lambda path: save_file({"ids": torch.tensor([1]), "rows": torch.tensor(1.0)}, path),
}


@pytest.mark.parametrize("is_old", [False, True], ids=["", "of an older version"])
@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_shard_is_computed_again(
    how: str, is_old: bool, fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs(fake, EXAMPLES, tmp_path)
    (broken,) = tmp_path.glob("shard-00001-*")
    if is_old:
        broken = broken.rename(tmp_path / "shard-00001.safetensors")
    BREAKS[how](broken)
    assert outputs(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.texts[5:] == ["丙", "丁"] and f"teacher logits: {broken} is broken, computed again" in caplog.text


def test_a_flipped_bit_is_found_and_a_shard_without_a_fingerprint_kept(fake: FakeTeacher, tmp_path: Path) -> None:
    """Older versions wrote no fingerprint."""
    fake.fails_after = 1000
    expected = outputs(fake, EXAMPLES[:2], tmp_path)
    (shard,) = tmp_path.glob("shard-*")
    content = shard.read_bytes()
    bits = range(0, 8 * len(content), 7)
    for bit in bits:
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        shard.write_bytes(flipped)
        assert outputs(fake, EXAMPLES[:2], tmp_path).equal(expected)
    shard.rename(tmp_path / "shard-00000.safetensors")
    assert outputs(fake, EXAMPLES[:2], tmp_path).equal(expected)
    assert fake.loads == 1 + len(bits)


def test_a_teacher_that_returns_too_few_rows_is_an_error(fake: FakeTeacher, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the teacher got 2 texts and returned 1 rows"):
        TeacherCache(tmp_path, MADE_BY, lambda: lambda texts, progress_label: fake.rows(texts[:1])).outputs(EXAMPLES)
    assert not list(tmp_path.glob("shard-*"))


def fill(folder: Path, examples: Sequence[Example], fails_after: int) -> list[str]:
    """The texts that this process computed; processes other than the main one fail after ``fails_after`` calls."""
    teacher_cache.SHARD_SIZE = 2
    fake = FakeTeacher()
    fake.fails_after = fails_after if distributed.rank() else 99
    with contextlib.suppress(KeyboardInterrupt):
        TeacherCache(folder, MADE_BY, fake.load).fill(examples)
    return fake.texts


def test_each_process_computes_its_share(fake: FakeTeacher, tmp_path: Path) -> None:
    """Each writes its own shards; every text is computed once, and a process may have none to compute."""
    examples = [*EXAMPLES, EXAMPLES[0]]
    assert in_group(2, fill, tmp_path, examples, 99) == [["甲", "丙", "戊"], ["乙", "丁"]]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert numbers(tmp_path) == [0, 1, 2]
    more = [*examples, Example(7, "己", 0)]
    assert in_group(3, fill, tmp_path, more, 99) == [["己"], [], []]
    assert outputs(fake, more, tmp_path).equal(fake.expected(more)) and not fake.loads
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())


def test_one_process_continues_what_several_began(fake: FakeTeacher, tmp_path: Path) -> None:
    in_group(2, fill, tmp_path, EXAMPLES, 0)
    assert len(list(tmp_path.glob("shard-*"))) == 2
    assert outputs(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.texts == ["乙", "丁"] and len(list(tmp_path.glob("shard-*"))) == 3


def test_messages_name_the_outputs(fake: FakeTeacher, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TeacherCache(tmp_path, MADE_BY, fake.load, "hints").outputs(EXAMPLES)
    assert all(message.startswith("hints: ") for message in caplog.messages)
