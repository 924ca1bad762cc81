"""fastText (Joulin et al., 1607.01759) over jieba's words: the quick classifier that others know. Optional."""

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
    """The package ``fasttext``, one thread and a fixed seed, so that it learns the same every time.

    Args:
        segmented: words of the texts to learn from.
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
        found, _ = self._model.predict(lines)  # of a list: of a single text it fails with NumPy 2
        return [int(labels[0].removeprefix(LABEL)) if labels else 0 for labels in found]

    @property
    def bytes(self) -> int:
        """Size of the file that it would be saved in."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model.bin")
            self._model.save_model(str(path))
            return path.stat().st_size


def _line(words: Sequence[str]) -> str:
    return " ".join(" ".join(words).split())  # a line's end inside would make two texts of one


def _package() -> Any:
    try:
        import fasttext
    except ImportError as error:
        raise UserError("the package fasttext is not installed", None, "pip install fasttext-wheel") from error
    fasttext.FastText.eprint = lambda *_: None  # it warns of its own API's change at every load
    return fasttext
