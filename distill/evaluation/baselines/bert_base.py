"""bert-base-chinese as the reference for speed: its time depends on its shape, not on its weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from distill.config import TeacherSettings
from distill.models.inference import predict_logits
from distill.models.teacher import TeacherNetwork, WordpieceTokenizer, build

NAME = "bert-base-chinese"
FOLDER = Path("bert_pretrain", NAME)
BATCH = 32
CLASSES = 2  # of an untrained classifier, 0.01 % of the work
VOCABULARY = 21_128  # of bert-base-chinese; its other sizes are the defaults of BertConfig
SETTINGS = TeacherSettings(max_length=64)
HAN = range(0x4E00, 0x9FA6)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert_base(
    folder: Path = FOLDER, config: BertConfig | None = None, batch: int = BATCH
) -> tuple[Callable[[Sequence[str]], list[int]], str]:
    """A function that labels raw texts with bert-base-chinese in fp32 on the CPU, and a sentence that describes it.

    Batches hold ``batch`` texts of similar lengths, padded to the longest. If ``folder`` exists, its weights and
    tokenizer are used; otherwise the weights are random, of ``config``, and the tokenizer is :func:`stand_in`.
    """
    model, wordpieces = build(str(folder), SETTINGS, CLASSES) if folder.is_dir() else _random(config)
    model.bf16 = False

    def predict(texts: Sequence[str]) -> list[int]:
        return [int(label) for label in predict_logits(model, wordpieces.encode(texts), batch_size=batch).argmax(1)]

    return predict, _description(folder)


def _random(config: BertConfig | None) -> tuple[TeacherNetwork, WordpieceTokenizer]:
    config = copy.deepcopy(config) if config else BertConfig(vocab_size=VOCABULARY)
    torch.manual_seed(0)
    layers, config.num_hidden_layers = config.num_hidden_layers, 1
    encoder = BertModel(config, add_pooling_layer=False)
    # copies, because drawing the weights of every layer takes seconds
    encoder.encoder.layer.extend(copy.deepcopy(encoder.encoder.layer[0]) for _ in range(1, layers))
    config.num_hidden_layers = layers
    return TeacherNetwork(encoder, config.hidden_size, CLASSES, SETTINGS.pooling), stand_in(SETTINGS.max_length)


def stand_in(max_length: int) -> WordpieceTokenizer:
    """BERT's tokenizer with a vocabulary of Chinese characters: any other word or symbol is one unknown piece."""
    vocabulary = {piece: index for index, piece in enumerate([*SPECIAL, *map(chr, HAN)])}
    return WordpieceTokenizer(BertTokenizerFast(vocab=vocabulary), "", max_length)


def _description(folder: Path) -> str:
    if folder.is_dir():
        return f"{NAME}: its own weights and tokenizer, without fine-tuning; timing only."
    return (
        f"{NAME}: its shape with random weights, timing only. {folder.as_posix()} does not exist, so a stand-in "
        "tokenizer is used: every Chinese character and every Latin word or number is one piece, where the real "
        "tokenizer may split a word into several."
    )
