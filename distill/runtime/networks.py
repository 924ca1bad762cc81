"""The students' networks by their name in a bundle's card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from distill.runtime.layers import Arrays, Encoded, Floats
from distill.runtime.pooled import Average, TextCNN
from distill.runtime.recurrent import Recurrent

__all__ = ["Encoded", "Network", "network"]


class Network(Protocol):
    """What turns encoded texts into logits."""

    def logits(self, texts: Encoded) -> Floats:
        """Logits, shape (texts, classes)."""
        ...


def network(card: Mapping[str, Any], arrays: Arrays) -> Network:
    """The network of a bundle's card."""
    made: dict[str, Any] = {"bilstm": Recurrent, "textcnn": TextCNN, "average": Average}
    return made[card["architecture"]](card, arrays)  # type: ignore[no-any-return]
