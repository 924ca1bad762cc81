"""The transfer set: texts that the teacher answers once, its answers kept in shards, joined by example id.

``folder/manifest.json`` says what made them, ``folder/shard-00000.safetensors`` and so on hold int64 ``ids`` (texts,)
and ``rows`` (texts, ...). Each file is there whole or not at all, so a killed run loses one shard at most.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from distill.data import Example
from distill.progress import log
from distill.runs import write_file, write_json

VERSION = 2
SHARD = 16_384  # texts a file at most: what a killed run may lose
MANIFEST = "manifest.json"
Asker = Callable[[Sequence[str], str], Tensor]


@dataclass(frozen=True)
class Shard:
    """One file of answers; its rows stay on disk."""

    path: Path
    ids: Tensor  # (texts,)


def answers(
    open_teacher: Callable[[], Asker],
    made_by: dict[str, str],
    examples: Sequence[Example],
    folder: Path,
    name: str = "teacher logits",
) -> Tensor:
    """The teacher's answers to ``examples``, shape (examples, ...) and dtype as the teacher gave them.

    The same command goes on where a killed one stopped, and a transfer set that grew asks for its new texts only.

    Args:
        open_teacher: called only if texts are missing; gives the function (texts, what the bar says) -> (texts, ...).
        made_by: names everything that decides an answer: weights, word pieces, precision. A cache made by something
            else is removed, the reason said.
        examples: in any order; a repeated id is asked once.
        folder: the cache.
        name: of the answers, in messages.
    """
    _remove_stale(folder, made_by, name)
    shards = _shards(folder, name)
    ids = torch.tensor([example.id for example in examples], dtype=torch.int64)
    places = torch.isin(ids, _ids(shards), invert=True).nonzero().flatten().tolist()
    missing = {examples[place].id: examples[place].text for place in places}
    if missing:
        log.info("%s: %d texts to label, %d kept", name, len(missing), len(examples) - len(places))
        shards += _ask(open_teacher(), missing, folder, name)
    else:
        log.info("%s: kept (%s)", name, folder)
    return _join(shards, ids)


def _remove_stale(folder: Path, made_by: dict[str, str], name: str) -> None:
    """Leave in ``folder`` a manifest of ``made_by`` and only shards made by it; say why shards had to go."""
    manifest = {"version": VERSION, "made_by": made_by}
    stale = _difference(folder / MANIFEST, manifest)
    if not stale:
        return
    shards = _paths(folder)
    if shards:
        log.info("%s: the cache is %s, computed again", name, stale)
    for path in shards:  # before the manifest: shards must never lie beside the manifest of others
        path.unlink()
    write_json(folder / MANIFEST, manifest)


def _difference(path: Path, wanted: dict[str, Any]) -> str:
    """Why the manifest at ``path`` is not the one that is wanted; empty if it is."""
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        version, made_by = recorded["version"], dict(recorded["made_by"])
    except (OSError, ValueError, KeyError, TypeError):
        return "broken"
    changed = [key for key in {**wanted["made_by"], **made_by} if wanted["made_by"].get(key) != made_by.get(key)]
    changed += ["version"] * (version != wanted["version"])
    return f"stale ({', '.join(changed)} changed)" if changed else ""


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.safetensors"))


def _shards(folder: Path, name: str) -> list[Shard]:
    """The shards of the cache; a broken one is said and removed."""
    shards = []
    for path in _paths(folder):
        try:
            with safe_open(path, "pt") as file:
                ids, rows = file.get_tensor("ids"), file.get_slice("rows").get_shape()
            if ids.dtype != torch.int64 or ids.shape != (rows[0],):
                raise ValueError("ids and rows do not belong together")
        except (SafetensorError, ValueError, IndexError):
            log.info("%s: %s is broken, computed again", name, path)
            path.unlink()
        else:
            shards.append(Shard(path, ids))
    return shards


def _ids(shards: Sequence[Shard]) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.int64), *(shard.ids for shard in shards)])


def _ask(ask: Asker, missing: dict[int, str], folder: Path, name: str) -> list[Shard]:
    """Let the teacher answer ``missing`` (id to text), a shard at a time; each is kept as soon as it is done."""
    ids, texts = list(missing), list(missing.values())
    first = max((int(path.stem.removeprefix("shard-")) + 1 for path in _paths(folder)), default=0)
    starts = range(0, len(ids), SHARD)
    began, shards = time.perf_counter(), []
    for part, start in enumerate(starts):
        what = "teacher labels" + (f", part {part + 1} of {len(starts)}" if len(starts) > 1 else "")
        rows = ask(texts[start : start + SHARD], what).cpu().contiguous()
        shard = Shard(folder / f"shard-{first + part:05}.safetensors", torch.tensor(ids[start : start + SHARD]))
        if len(rows) != len(shard.ids):
            raise ValueError(f"{len(shard.ids)} texts were asked, {len(rows)} rows came back")
        write_file(shard.path, save({"ids": shard.ids, "rows": rows}))
        shards.append(shard)
    seconds = max(time.perf_counter() - began, 1e-9)
    log.info("%s: %d texts labelled, %.0f texts/s", name, len(ids), len(ids) / seconds)
    return shards


def _join(shards: Sequence[Shard], ids: Tensor) -> Tensor:
    """The rows in the order of ``ids`` (examples,); beside them one shard at a time is in memory."""
    held, order = _ids(shards).sort()
    # places: where a row stands if the shards lie end to end, ascending; wanted: the example that wants it
    places, wanted = order[torch.searchsorted(held, ids)].sort()
    ends = torch.tensor([len(shard.ids) for shard in shards], dtype=torch.int64).cumsum(0)
    cuts = [0, *torch.searchsorted(places, ends).tolist()]
    joined = torch.empty(0)
    for shard, end, begin, stop in zip(shards, ends.tolist(), cuts, cuts[1:], strict=False):
        if begin == stop:
            continue
        rows = load_file(shard.path)["rows"]
        if not begin:
            joined = rows.new_empty(len(ids), *rows.shape[1:])
        joined[wanted[begin:stop]] = rows[places[begin:stop] - (end - len(rows))]
    return joined
