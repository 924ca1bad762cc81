"""The cache of the teacher's answers: in shards, joined by example id, resumed, refused when stale with a word why."""

from __future__ import annotations

import contextlib
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
MADE_BY = {"weights": "abc", "precision": "fp32"}


class Fake:
    """A teacher whose answers tell the text; it counts its openings, keeps what it was asked, and may fail."""

    def __init__(self) -> None:
        self.opened = 0
        self.asked: list[str] = []
        self.bars: list[str] = []
        self.fails_after = 99

    def rows(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(ord(text)), 1.0] for text in texts])

    def open(self) -> teacher_cache.TeacherFunction:
        self.opened += 1

        def ask(texts: Sequence[str], what: str) -> Tensor:
            if len(self.bars) == self.fails_after:
                raise KeyboardInterrupt
            self.bars.append(what)
            self.asked += texts
            return self.rows(texts)

        return ask

    def expected(self, examples: Sequence[Example]) -> Tensor:
        return self.rows([example.text for example in examples])


class Hints(Fake):
    """Answers of shape (layers=3, width=4) in half precision."""

    def rows(self, texts: Sequence[str]) -> Tensor:
        return torch.stack([torch.full((3, 4), ord(text) % 100, dtype=torch.float16) for text in texts])


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Fake:
    monkeypatch.setattr(teacher_cache, "SHARD_SIZE", 2)
    caplog.set_level("INFO", "distill")
    return Fake()


def ask(fake: Fake, examples: Sequence[Example], folder: Path, **changes: str) -> Tensor:
    return TeacherCache(folder, {**MADE_BY, **changes}, fake.open).outputs(examples)


def test_texts_are_asked_once(fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "cache" / "logits"
    for _ in range(2):
        assert ask(fake, EXAMPLES, folder).equal(fake.expected(EXAMPLES))
    assert fake.opened == 1 and fake.asked == list("甲乙丙丁戊")
    assert fake.bars == [f"teacher labels, part {part} of 3" for part in (1, 2, 3)]
    shards = [f"shard-{number:05}.safetensors" for number in range(3)]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", *shards]
    told = [message.split(", ")[0] for message in caplog.messages]
    assert told == [
        "teacher logits: 5 texts to label",
        "teacher logits: 5 texts labelled",
        f"teacher logits: complete in the cache ({folder})",
    ]
    assert caplog.messages[0].endswith(", 0 in the cache") and caplog.messages[1].endswith(" texts/s")


def test_answers_are_joined_by_id_not_by_place(fake: Fake, tmp_path: Path) -> None:
    ask(fake, EXAMPLES, tmp_path)
    for places in ((4, 2, 0, 3), (1,), (3, 1, 3, 3), ()):
        examples = [EXAMPLES[place] for place in places]
        assert ask(fake, examples, tmp_path).tolist() == fake.expected(examples).tolist()
    assert fake.opened == 1


def test_no_text_at_all(fake: Fake, tmp_path: Path) -> None:
    assert len(ask(fake, [], tmp_path)) == 0 and fake.opened == 0


def test_a_killed_run_goes_on_where_it_stopped(fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fake.fails_after = 1
    with pytest.raises(KeyboardInterrupt):
        ask(fake, EXAMPLES, tmp_path)
    assert fake.asked == ["甲", "乙"]
    again = Fake()
    assert ask(again, EXAMPLES, tmp_path).equal(again.expected(EXAMPLES))
    assert again.asked == ["丙", "丁", "戊"]
    assert "teacher logits: 3 texts to label, 2 in the cache" in caplog.text


def test_a_transfer_set_that_grew_asks_for_the_new_texts_only(fake: Fake, tmp_path: Path) -> None:
    ask(fake, EXAMPLES[1:4], tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert ask(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.asked == ["乙", "丙", "丁", "甲", "戊"] and fake.bars[-1] == "teacher labels"
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())


def test_repeated_ids_are_asked_once(fake: Fake, tmp_path: Path) -> None:
    examples = [EXAMPLES[place] for place in (0, 1, 0, 0, 1, 2)]
    assert ask(fake, examples, tmp_path).equal(fake.expected(examples))
    assert fake.asked == ["甲", "乙", "丙"]


def test_answers_of_any_shape_and_dtype(fake: Fake, tmp_path: Path) -> None:
    hints = Hints()
    for _ in range(2):
        found = ask(hints, EXAMPLES[::-1], tmp_path)
        assert found.dtype == torch.float16 and found.shape == (5, 3, 4)
        assert found.equal(hints.expected(EXAMPLES[::-1]))
    assert hints.opened == 1


@pytest.mark.parametrize("changes", [{"weights": "abd"}, {"precision": "bf16"}, {"wordpieces": "new"}])
def test_a_stale_cache_is_refused_with_a_reason(
    changes: dict[str, str], fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(fake, EXAMPLES, tmp_path)
    ask(fake, EXAMPLES[:1], tmp_path, **changes)
    assert fake.opened == 2 and len(list(tmp_path.glob("shard-*"))) == 1
    assert f"teacher logits: the cache is stale ({next(iter(changes))} changed), computed again" in caplog.text


def test_a_cache_made_with_more_than_is_asked_for_is_stale(
    fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(fake, EXAMPLES, tmp_path, layers="3,6")
    ask(fake, EXAMPLES, tmp_path)
    assert fake.opened == 2 and "stale (layers changed)" in caplog.text


def test_another_version_is_stale(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask(fake, EXAMPLES, tmp_path)
    monkeypatch.setattr(teacher_cache, "VERSION", 99)
    ask(fake, EXAMPLES, tmp_path)
    assert fake.opened == 2 and "stale (version changed)" in caplog.text


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"version": 2, "made_by": 3}'])
def test_shards_without_a_good_manifest_are_made_anew(
    content: str | None, fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask(fake, EXAMPLES, tmp_path)
    if content is None:
        (tmp_path / "manifest.json").unlink()
    else:
        (tmp_path / "manifest.json").write_text(content, "utf-8")
    assert ask(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.opened == 2 and "the cache is broken, computed again" in caplog.text


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def lose_a_row(path: Path) -> None:
    content = load_file(path)
    save_file({"ids": content["ids"], "rows": content["rows"][:1].contiguous()}, path)


BREAKS = {
    "empty": lambda path: path.write_bytes(b""),
    "no header": lambda path: path.write_bytes(b"12345678"),
    "no tensors": lambda path: path.write_bytes(b"\x02\0\0\0\0\0\0\0{}"),
    "cut": cut,
    "a row lost": lose_a_row,
    "a scalar": lambda path: save_file({"ids": torch.tensor([1]), "rows": torch.tensor(1.0)}, path),
}


@pytest.mark.parametrize("how", BREAKS)
def test_a_broken_shard_is_made_anew(how: str, fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ask(fake, EXAMPLES, tmp_path)
    broken = tmp_path / "shard-00001.safetensors"
    BREAKS[how](broken)
    assert ask(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.asked[5:] == ["丙", "丁"] and f"teacher logits: {broken} is broken, computed again" in caplog.text


def test_a_teacher_that_loses_texts_is_a_fault(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the teacher got 2 texts and returned 1 rows"):
        TeacherCache(tmp_path, MADE_BY, lambda: lambda texts, what: fake.rows(texts[:1])).outputs(EXAMPLES)
    assert not list(tmp_path.glob("shard-*"))


def fill(folder: Path, examples: Sequence[Example], fails_after: int) -> list[str]:
    """What this process was asked; of several the second one fails."""
    teacher_cache.SHARD_SIZE = 2
    fake = Fake()
    fake.fails_after = fails_after if distributed.rank() else 99
    with contextlib.suppress(KeyboardInterrupt):
        TeacherCache(folder, MADE_BY, fake.open).fill(examples)
    return fake.asked


def test_several_processes_ask_each_its_share(fake: Fake, tmp_path: Path) -> None:
    """Each writes its own shards; a text is asked once, and none where there is nothing left for a process."""
    examples = [*EXAMPLES, EXAMPLES[0]]
    assert in_group(2, fill, tmp_path, examples, 99) == [["甲", "丙", "戊"], ["乙", "丁"]]
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert sorted(before) == ["manifest.json", *(f"shard-{number:05}.safetensors" for number in range(3))]
    more = [*examples, Example(7, "己", 0)]
    assert in_group(3, fill, tmp_path, more, 99) == [["己"], [], []]
    assert ask(fake, more, tmp_path).equal(fake.expected(more)) and not fake.opened
    assert all((tmp_path / name).read_bytes() == content for name, content in before.items())


def test_what_several_began_one_goes_on_with(fake: Fake, tmp_path: Path) -> None:
    in_group(2, fill, tmp_path, EXAMPLES, 0)
    assert len(list(tmp_path.glob("shard-*"))) == 2
    assert ask(fake, EXAMPLES, tmp_path).equal(fake.expected(EXAMPLES))
    assert fake.asked == ["乙", "丁"] and len(list(tmp_path.glob("shard-*"))) == 3


def test_messages_name_the_answers(fake: Fake, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    TeacherCache(tmp_path, MADE_BY, fake.open, "hints").outputs(EXAMPLES)
    assert all(message.startswith("hints: ") for message in caplog.messages)
