"""The transfer set: texts that the teacher answers once, its answers kept in shards, joined by example id.

``folder/manifest.json`` says what made them, ``folder/shard-00000.safetensors`` and so on hold int64 ``ids`` (texts,)
and ``rows`` (texts, ...). Each file is written atomically, so a killed run loses one shard at most. Of several
processes each asks its own teacher for its share of the texts and writes shards of its own.
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
from distill.storage.atomic import write_file, write_json
from distill.training import distributed

VERSION = 2
SHARD = 16_384  # texts a file at most: what a killed run may lose
MANIFEST = "manifest.json"
Asker = Callable[[Sequence[str], str], Tensor]


@dataclass(frozen=True)
class Shard:
    """One file of answers; its rows stay on disk."""

    path: Path
    ids: Tensor  # (texts,)


@dataclass(frozen=True)
class Cache:
    """What one teacher says of texts.

    The same command goes on where a killed one stopped, and a transfer set that grew asks for its new texts only.

    Args:
        folder: where the answers are kept.
        made_by: names everything that decides an answer: weights, word pieces, precision. Answers made by something
            else are removed, the reason said.
        open_teacher: called only if texts are missing; gives the function (texts, what the bar says) -> (texts, ...).
        name: of the answers, in messages.
    """

    folder: Path
    made_by: dict[str, str]
    open_teacher: Callable[[], Asker]
    name: str = "teacher logits"

    def answers(self, examples: Sequence[Example]) -> Tensor:
        """Of ``examples`` in any order, shape (examples, ...) and dtype as the teacher gave them."""
        self.fill(examples)
        return _join(_shards(self.folder, self.name), _example_ids(examples))

    def add(self, examples: Sequence[Example], rows: Tensor) -> None:
        """Keep answers (examples, ...) that are known already, of examples that have none; the first process does."""
        if distributed.place() == 0:
            number, *marks = self._missing(examples).tolist()
            new = torch.tensor(marks, dtype=torch.bool).nonzero().flatten()
            for part, places in enumerate(torch.split(new, SHARD) if len(new) else ()):
                self._write(number + part, _example_ids(examples)[places], rows[places])
        distributed.wait()

    def fill(self, examples: Sequence[Example]) -> None:
        """Let the teacher answer what is missing, a repeated id once; each process asks its share."""
        found = torch.zeros(1 + len(examples), dtype=torch.int64)
        if distributed.place() == 0:  # alone: another process might look when shards of this call are there already
            found = self._missing(examples)
        number, *marks = distributed.from_first(found).tolist()
        places = [place for place, mark in enumerate(marks) if mark]
        missing = {examples[place].id: examples[place].text for place in places}
        if not missing:
            log.info("%s: kept (%s)", self.name, self.folder)
            return
        log.info("%s: %d texts to label, %d kept", self.name, len(missing), len(examples) - len(places))
        began = time.perf_counter()
        self._ask(missing, number)
        distributed.wait()
        seconds = max(time.perf_counter() - began, 1e-9)
        log.info("%s: %d texts labelled, %.0f texts/s", self.name, len(missing), len(missing) / seconds)

    def _missing(self, examples: Sequence[Example]) -> Tensor:
        """The next shard's number, then 1 for every example without an answer, else 0; what is stale or broken goes."""
        _remove_stale(self.folder, self.made_by, self.name)
        shards = _shards(self.folder, self.name)
        number = max((int(shard.path.stem.removeprefix("shard-")) + 1 for shard in shards), default=0)
        marks = torch.isin(_example_ids(examples), _ids(shards), invert=True)
        return torch.cat([torch.tensor([number]), marks.long()])

    def _ask(self, missing: dict[int, str], number: int) -> None:
        """This process's share of ``missing`` (id to text), a shard at a time; each is kept as soon as it is done."""
        place, every = distributed.place(), distributed.count()
        ids, texts = list(missing)[place::every], list(missing.values())[place::every]
        if not ids:
            return
        ask, starts = self.open_teacher(), range(0, len(ids), SHARD)
        for part, start in enumerate(starts):
            what = "teacher labels" + (f", part {part + 1} of {len(starts)}" if len(starts) > 1 else "")
            rows = ask(texts[start : start + SHARD], what).cpu()
            ids_of_rows = torch.tensor(ids[start : start + SHARD])
            if len(rows) != len(ids_of_rows):
                raise ValueError(f"{len(ids_of_rows)} texts were asked, {len(rows)} rows came back")
            self._write(number + part * every + place, ids_of_rows, rows)

    def _write(self, number: int, ids: Tensor, rows: Tensor) -> None:
        write_file(self.folder / f"shard-{number:05}.safetensors", save({"ids": ids, "rows": rows.contiguous()}))


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


def _example_ids(examples: Sequence[Example]) -> Tensor:
    return torch.tensor([example.id for example in examples], dtype=torch.int64)


def _ids(shards: Sequence[Shard]) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.int64), *(shard.ids for shard in shards)])


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
