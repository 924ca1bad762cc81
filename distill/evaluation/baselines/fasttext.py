"""fastText (Joulin et al., arXiv 1607.01759) over jieba's words: a widely known fast classifier. Optional."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from distill.errors import UserError
from distill.text.segmentation import Segmenter

LABEL = "__label__"
SETTINGS = {"dim": 100, "epoch": 10, "lr": 0.5, "wordNgrams": 2, "minn": 1, "maxn": 3, "bucket": 500_000}


class FastText:
    """A classifier of the package ``fasttext``, trained with one thread and a fixed seed to be reproducible.

    Args:
        segmented: words of the training texts.
        labels: their class numbers.
        segmenter: for the texts to predict.

    Raises:
        UserError: the package is not installed.
    """

    def __init__(self, segmented: Sequence[Sequence[str]], labels: Sequence[int], segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "train.txt")
            lines = (f"{LABEL}{label} {_line(words)}" for words, label in zip(segmented, labels, strict=True))
            path.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
            self._model = _package().train_supervised(str(path), thread=1, seed=1, verbose=0, **SETTINGS)

    def predict(self, texts: Sequence[str]) -> list[int]:
        """Class numbers of raw texts, segmentation included."""
        lines = [_line(self._segmenter.segment(text)).encode("utf-8", "replace").decode() for text in texts]
        labels_of_lines, _ = self._model.predict(lines)  # a list: with NumPy 2 it fails for a single text
        return [int(labels[0].removeprefix(LABEL)) if labels else 0 for labels in labels_of_lines]

    @property
    def bytes(self) -> int:
        """Size of its model file."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.bin")
            self._model.save_model(str(path))
            return path.stat().st_size


def _line(words: Sequence[str]) -> str:
    return " ".join(" ".join(words).split())  # a line break would split the text in two


def _package() -> Any:
    try:
        import fasttext
    except ImportError as error:
        raise UserError("the package fasttext is not installed", None, "pip install fasttext-wheel") from error
    fasttext.FastText.eprint = lambda *_: None  # suppresses a warning at every load
    return fasttext
