"""Packed ids and batches: every text once, at its row, padded correctly."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.text.batching import PackedIds, batches_by_length, sample_rows, shuffled_batches

texts_of_ids = st.lists(st.lists(st.integers(1, 99), min_size=1, max_size=9), min_size=1, max_size=40)


@given(texts_of_ids, st.data())
def test_a_batch_contains_the_requested_texts(texts: list[list[int]], data: st.DataObject) -> None:
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
        list(shuffled_batches(lengths, size, torch.Generator().manual_seed(seed))),
        list(batches_by_length(lengths, size)),
    ):
        assert sorted(torch.cat(batches).tolist()) == list(range(len(texts)))
        assert len(batches) == -(-len(texts) // size)


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = torch.randint(1, 20, (500,), generator=torch.Generator().manual_seed(1))

    def order(seed: int) -> list[int]:
        return torch.cat(list(shuffled_batches(lengths, 8, torch.Generator().manual_seed(seed)))).tolist()

    assert order(3) == order(3) != order(4)


def test_batches_contain_texts_of_similar_lengths() -> None:
    lengths = torch.randint(1, 60, (3200,), generator=torch.Generator().manual_seed(1))
    batches = shuffled_batches(lengths, 32, torch.Generator())
    padding = sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in batches)
    assert padding / lengths.sum() < 0.05  # it is almost 1 without buckets


def test_rows_are_sampled_in_proportion_to_their_weights() -> None:
    weights, generator = torch.tensor([1.0, 0.0, 3.0]), torch.Generator().manual_seed(0)
    samples = [sample_rows(weights, generator) for _ in range(3000)]
    counts = torch.bincount(torch.cat([rows for rows in samples if rows is not None]), minlength=3)
    assert counts.sum() == 9000 and counts[1] == 0
    assert counts[2] / counts[0] == pytest.approx(3, rel=0.1)
    assert sample_rows(None, generator) is None


def test_renumbering_changes_ids_and_padding_but_not_texts() -> None:
    packed, new_ids = PackedIds([[5, 7], [7]], 1), torch.zeros(8, dtype=torch.int64)
    new_ids[5], new_ids[7], new_ids[1] = 2, 3, 4
    other = packed.renumbered(new_ids)
    assert other.batch(torch.tensor([0, 1])).ids.tolist() == [[2, 3], [3, 4]]
    assert packed.batch(torch.tensor([0, 1])).ids.tolist() == [[5, 7], [7, 1]]
