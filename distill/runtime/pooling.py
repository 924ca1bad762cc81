"""What each network's module hands to the student: a struct for its kernel, and the shape of the pooled vectors."""

from __future__ import annotations

from dataclasses import dataclass, field

from distill.runtime.structs import Dense, Struct

DIRECTIONS = ("ahead", "back")  # forward and backward, as in the names of a bundle's arrays


@dataclass(frozen=True)
class PoolingNetwork:
    """A network that turns the words of a text into one vector, by the function ``forward_pass`` of the kernels.

    Args:
        forward_pass: name of the exported C function.
        struct: its first argument.
        width: dimension of a pooled vector. It consists of parts that are padded to whole vectors.
        part_features: dimension of a part without padding.
        hidden: a hidden layer with ReLU between pooled vector and classifier; its default stands for none.
        sorts_texts: the function sorts its texts by length, so it is better given all of them than a few at a time.
    """

    forward_pass: str
    struct: Struct
    width: int
    part_features: int
    hidden: Dense = field(default_factory=Dense)
    sorts_texts: bool = False
