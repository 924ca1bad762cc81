"""The transfer set: texts that the teacher labels once, its logits kept by example id under a fingerprint."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from distill.classifiers import TextClassifier
from distill.data import Example
from distill.progress import log
from distill.runs import write_file

VERSION = 1


def teacher_logits(
    load_teacher: Callable[[], TextClassifier], made_by: dict[str, str], examples: Sequence[Example], path: Path
) -> Tensor:
    """The teacher's logits of ``examples``, shape (examples, classes), from the cache at ``path`` if it is current.

    The teacher is loaded only if it is needed. ``made_by`` names everything that decides the logits: weights, word
    pieces, precision. A cache made by something else is refused, the reason said, and made anew; it is there whole
    or not at all.
    """
    made_by = {**made_by, "cache_version": str(VERSION)}
    ids = torch.tensor([example.id for example in examples])
    stale, found = _read(path, made_by, ids)
    if found is not None:
        log.info("teacher logits: kept (%s)", path)
        return found
    log.info("teacher logits: %s", stale)
    logits = load_teacher().logits([example.text for example in examples], "teacher labels")
    write_file(path, save({"ids": ids, "logits": logits}, {"made_by": json.dumps(made_by)}))
    return logits


def _read(path: Path, made_by: dict[str, str], ids: Tensor) -> tuple[str, Tensor | None]:
    """(why the cache cannot serve, None) or ("", logits in the order of ``ids``)."""
    if not path.exists():
        return "not computed yet", None
    try:
        with safe_open(path, "pt") as file:
            recorded = json.loads(file.metadata()["made_by"])
            cached_ids, logits = file.get_tensor("ids"), file.get_tensor("logits")
    except (SafetensorError, KeyError, TypeError, ValueError):
        return "the cache is broken, computed again", None
    changed = [key for key, value in made_by.items() if recorded.get(key) != value]
    if changed:
        return f"the cache is stale ({', '.join(changed)} changed), computed again", None
    cached_ids, order = cached_ids.sort()
    places = torch.searchsorted(cached_ids, ids).clamp(max=len(cached_ids) - 1)
    missing = int((cached_ids[places] != ids).sum())
    if missing:
        return f"the cache lacks {missing} texts, computed again", None
    return "", logits[order[places]]
