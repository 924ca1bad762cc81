"""Packed ids and batches: every text once, in its place, padded right."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.text.batching import PackedIds, shuffled, sorted_by_length

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
