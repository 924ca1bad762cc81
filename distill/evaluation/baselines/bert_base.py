"""bert-base-chinese as the yardstick of speed: its shape decides how long it takes, its weights do not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from transformers import BertConfig, BertModel, BertTokenizerFast

from distill.config import TeacherSettings
from distill.models.inference import predict_logits
from distill.models.teacher import Teacher, WordpieceTokenizer, build

NAME = "bert-base-chinese"
FOLDER = Path("bert_pretrain", NAME)
BATCH = 32
CLASSES = 2  # of an untrained classifier, a ten-thousandth of the work
VOCABULARY = 21_128  # of bert-base-chinese; all else is as BertConfig has it
SETTINGS = TeacherSettings(max_length=64)
HAN = range(0x4E00, 0x9FA6)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert_base(
    folder: Path = FOLDER, config: BertConfig | None = None
) -> tuple[Callable[[Sequence[str]], list[int]], str]:
    """What labels raw texts as bert-base-chinese would, in fp32 on the processor, and a sentence that says what it is.

    Batches of ``BATCH`` texts of like lengths, padded to their longest, word pieces included. Weights and tokenizer
    are those of ``folder`` where it is there. Else weights are random, of ``config``, and :func:`stand_in` cuts texts.
    """
    model, pieces = build(str(folder), SETTINGS, CLASSES) if folder.is_dir() else _random(config)
    model.bf16 = False

    def predict(texts: Sequence[str]) -> list[int]:
        return [int(label) for label in predict_logits(model, pieces.encode(texts), batch_size=BATCH).argmax(1)]

    return predict, _said(folder)


def _random(config: BertConfig | None) -> tuple[Teacher, WordpieceTokenizer]:
    config = config or BertConfig(vocab_size=VOCABULARY)
    torch.manual_seed(0)
    encoder = BertModel(config, add_pooling_layer=False)
    return Teacher(encoder, config.hidden_size, CLASSES, SETTINGS.pooling), stand_in(SETTINGS.max_length)


def stand_in(max_length: int) -> WordpieceTokenizer:
    """BERT's own tokenizer over Chinese characters alone: what it does not know, a word or a sign, is one piece."""
    pieces = {piece: place for place, piece in enumerate([*SPECIAL, *map(chr, HAN)])}
    return WordpieceTokenizer(BertTokenizerFast(vocab=pieces), "", max_length)


def _said(folder: Path) -> str:
    if folder.is_dir():
        return f"{NAME}: its own weights and tokenizer, without fine-tuning; timing only."
    return (
        f"{NAME}: its shape with random weights, timing only. There is no {folder.as_posix()}, so a stand-in cuts the "
        "texts: a Chinese character is a piece, and a Latin word or number is one, where the true tokenizer makes one "
        "or more."
    )
