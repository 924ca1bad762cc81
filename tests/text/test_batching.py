"""Packed ids and batches: every text once, in its place, padded right."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.text.batching import PackedIds, drawn, shuffled, sorted_by_length

texts_of_ids = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=40)


@given(texts_of_ids, st.data())
def test_a_batch_holds_the_asked_texts(texts: list[list[int]], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=10))
    batch = PackedIds(texts, 0).batch(torch.tensor(rows))
    assert batch.ids.shape == (len(rows), max(len(texts[row]) for row in rows))
    for ids, mask, row in zip(batch.ids.tolist(), batch.mask.tolist(), rows, strict=True):
        length = len(texts[row])
        assert ids[:length] == texts[row] and not any(ids[length:])
        assert sum(mask) == length and all(mask[:length])


@given(texts_of_ids, st.integers(1, 7), st.integers(0, 5))
def test_an_epoch_has_every_text_once(texts: list[list[int]], size: int, seed: int) -> None:
    lengths = PackedIds(texts, 0).lengths
    for batches in (
        list(shuffled(lengths, size, torch.Generator().manual_seed(seed))),
        list(sorted_by_length(lengths, size)),
    ):
        assert sorted(torch.cat(batches).tolist()) == list(range(len(texts)))
        assert len(batches) == -(-len(texts) // size)


def test_shuffling_hangs_on_the_seed_alone() -> None:
    lengths = torch.randint(1, 20, (500,), generator=torch.Generator().manual_seed(1))

    def order(seed: int) -> list[int]:
        return torch.cat(list(shuffled(lengths, 8, torch.Generator().manual_seed(seed)))).tolist()

    assert order(3) == order(3) != order(4)


def test_batches_hold_texts_of_like_lengths() -> None:
    lengths = torch.randint(1, 60, (3200,), generator=torch.Generator().manual_seed(1))
    padding = sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in shuffled(lengths, 32, torch.Generator()))
    assert padding / lengths.sum() < 0.05  # without bucketing it is nearly 1


def test_rows_are_drawn_in_proportion_to_their_chances() -> None:
    chances, generator = torch.tensor([1.0, 0.0, 3.0]), torch.Generator().manual_seed(0)
    draws = [drawn(chances, generator) for _ in range(3000)]
    counts = torch.bincount(torch.cat([rows for rows in draws if rows is not None]), minlength=3)
    assert counts.sum() == 9000 and counts[1] == 0
    assert counts[2] / counts[0] == pytest.approx(3, rel=0.1)
    assert drawn(None, generator) is None


def test_renumbered_ids_stand_for_the_same_texts_and_padding() -> None:
    packed, new_ids = PackedIds([[5, 7], [7]], 1), torch.zeros(8, dtype=torch.int64)
    new_ids[5], new_ids[7], new_ids[1] = 2, 3, 4
    other = packed.renumbered(new_ids)
    assert other.batch(torch.tensor([0, 1])).ids.tolist() == [[2, 3], [3, 4]]
    assert packed.batch(torch.tensor([0, 1])).ids.tolist() == [[5, 7], [7, 1]]
