"""The cache of a teacher's outputs (logits or vectors), computed once per text and joined by example id.

A cache folder holds ``manifest.json``, which records what produced the outputs, and shards
``shard-00000-FINGERPRINT.safetensors``, … with the tensors ``ids`` (texts,) int64 and ``rows`` (texts, ...). Each file
is written atomically, so a killed run loses one shard at most, and a shard that no longer has the fingerprint of its
name is computed again. In a group of processes, each loads its own teacher, computes its share of the missing texts and
writes its own shards.
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
from distill.storage.fingerprints import fingerprint_bytes, fingerprint_file
from distill.training import distributed

VERSION = 2
SHARD_SIZE = 16_384  # texts per file at most, and so the work that a killed run may lose
MANIFEST = "manifest.json"
OUTPUTS_BEFORE = "outputs_before"  # attribute of an error: see keep_outputs
TeacherFunction = Callable[[Sequence[str], str], Tensor]  # (texts, name of the progress bar) -> (texts, ...)


def keep_outputs(error: BaseException, rows: Tensor) -> None:
    """Attach the outputs (texts, ...) of the first texts to the error that ended the work; the cache stores them."""
    error.__dict__[OUTPUTS_BEFORE] = rows


@dataclass(frozen=True)
class Shard:
    """One file of outputs: its ids in memory, its rows on disk."""

    path: Path
    ids: Tensor  # (texts,)


@dataclass(frozen=True)
class TeacherCache:
    """The outputs of one teacher, computed when they are first needed.

    After an interruption, computing resumes after the last complete shard; when the transfer set grows, only its new
    texts are computed.

    Args:
        folder: the cache folder.
        provenance: everything that decides an output (weights, word pieces, precision), by name; the manifest's
            "made_by". If the folder was produced by something else, its shards are removed and the reason is logged.
        load_teacher: returns the teacher as a function; called only if texts are missing.
        name: of the outputs, in messages.
        shard_size: texts per file at most; 0: ``SHARD_SIZE``.
    """

    folder: Path
    provenance: dict[str, str]
    load_teacher: Callable[[], TeacherFunction]
    name: str = "teacher logits"
    shard_size: int = 0

    def outputs(self, examples: Sequence[Example]) -> Tensor:
        """The outputs of ``examples``, which may repeat, shape (examples, ...) and dtype as the teacher gave them."""
        self.fill(examples)
        return _join(_read_shards(self.folder, self.name), _example_ids(examples))

    def add(self, examples: Sequence[Example], rows: Tensor) -> None:
        """Store outputs (examples, ...) computed elsewhere, where the cache lacks them; only rank 0 writes."""
        if distributed.rank() == 0:
            next_shard, *is_missing = self._missing(examples).tolist()
            missing = torch.tensor(is_missing, dtype=torch.bool).nonzero().flatten()
            for part, indices in enumerate(torch.split(missing, SHARD_SIZE) if len(missing) else ()):
                self._write(next_shard + part, _example_ids(examples)[indices], rows[indices])
        distributed.barrier()

    def fill(self, examples: Sequence[Example]) -> None:
        """Compute the missing outputs, those of a repeated id once; every process computes its share."""
        next_shard_and_missing = torch.zeros(1 + len(examples), dtype=torch.int64)
        if distributed.rank() == 0:  # only there: a later process might already see shards that this call wrote
            next_shard_and_missing = self._missing(examples)
        next_shard, *is_missing = distributed.broadcast_from_main(next_shard_and_missing).tolist()
        missing = [example for example, absent in zip(examples, is_missing, strict=True) if absent]
        text_by_id = {example.id: example.text for example in missing}
        if not text_by_id:
            log.info("%s: complete in the cache (%s)", self.name, self.folder)
            return
        log.info("%s: %d texts to label, %d in the cache", self.name, len(text_by_id), len(examples) - len(missing))
        started = time.perf_counter()
        self._compute(text_by_id, next_shard)
        distributed.barrier()
        seconds = max(time.perf_counter() - started, 1e-9)
        log.info("%s: %d texts labelled, %.0f texts/s", self.name, len(text_by_id), len(text_by_id) / seconds)

    def _missing(self, examples: Sequence[Example]) -> Tensor:
        """The next shard's number, followed by 1 for every example without an output and 0 for the others.

        Stale and broken shards are removed first. Shape (1 + examples,), so that one broadcast sends all of it.
        """
        _remove_stale_shards(self.folder, self.provenance, self.name)
        shards = _read_shards(self.folder, self.name)
        next_shard = max((int(shard.path.stem.split("-")[1]) + 1 for shard in shards), default=0)
        is_missing = torch.isin(_example_ids(examples), _ids_of(shards), invert=True)
        return torch.cat([torch.tensor([next_shard]), is_missing.long()])

    def _compute(self, text_by_id: dict[int, str], next_shard: int) -> None:
        """Compute this process's share, every world_size-th text starting at rank, and write it shard by shard."""
        rank, world_size = distributed.rank(), distributed.world_size()
        ids, texts = list(text_by_id)[rank::world_size], list(text_by_id.values())[rank::world_size]
        if not ids:
            return
        size = self.shard_size or SHARD_SIZE
        teacher, starts = self.load_teacher(), range(0, len(ids), size)
        for part, start in enumerate(starts):
            progress_label = "teacher labels" + (f", part {part + 1} of {len(starts)}" if len(starts) > 1 else "")
            number, shard_ids = next_shard + part * world_size + rank, torch.tensor(ids[start : start + size])
            try:
                rows = teacher(texts[start : start + size], progress_label).cpu()
            except BaseException as error:
                before = error.__dict__.get(OUTPUTS_BEFORE)
                if before is not None and len(before):
                    self._write(number, shard_ids[: len(before)], before)
                raise
            if len(rows) != len(shard_ids):
                raise ValueError(f"the teacher got {len(shard_ids)} texts and returned {len(rows)} rows")
            self._write(number, shard_ids, rows)

    def _write(self, number: int, ids: Tensor, rows: Tensor) -> None:
        content = save({"ids": ids, "rows": rows.contiguous()})
        write_file(self.folder / f"shard-{number:05}-{fingerprint_bytes(content)}.safetensors", content)


def _remove_stale_shards(folder: Path, provenance: dict[str, str], name: str) -> None:
    """Leave a manifest with ``provenance`` in ``folder``, and only shards that belong to it; log why others went."""
    manifest = {"version": VERSION, "made_by": provenance}
    reason = _stale_reason(folder / MANIFEST, manifest)
    if not reason:
        return
    shards = _shard_paths(folder)
    if shards:
        log.info("%s: the cache is %s, computed again", name, reason)
    for path in shards:  # before the manifest is written, which must never describe other shards
        path.unlink()
    write_json(folder / MANIFEST, manifest)


def _stale_reason(path: Path, wanted: dict[str, Any]) -> str:
    """How the manifest at ``path`` differs from the wanted one; empty if it does not."""
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        version, made_by = recorded["version"], dict(recorded["made_by"])
    except (OSError, ValueError, KeyError, TypeError):
        return "broken"
    changed = [key for key in {**wanted["made_by"], **made_by} if wanted["made_by"].get(key) != made_by.get(key)]
    changed += ["version"] * (version != wanted["version"])
    return f"stale ({', '.join(changed)} changed)" if changed else ""


def _shard_paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("shard-*.safetensors"))


def _read_shards(folder: Path, name: str) -> list[Shard]:
    """All shards of a cache; broken ones are logged and removed."""
    shards = []
    for path in _shard_paths(folder):
        try:
            _check_fingerprint(path)
            with safe_open(path, "pt") as file:
                ids, shape = file.get_tensor("ids"), file.get_slice("rows").get_shape()
            if ids.dtype != torch.int64 or ids.shape != (shape[0],):
                raise ValueError("ids and rows do not match")
        except (SafetensorError, ValueError, IndexError):
            log.info("%s: %s is broken, computed again", name, path)
            path.unlink()
        else:
            shards.append(Shard(path, ids))
    return shards


def _check_fingerprint(path: Path) -> None:
    """Compare a shard with the fingerprint in its name; those of older versions have none.

    Raises:
        ValueError: they differ.
    """
    _, _, fingerprint = path.stem.removeprefix("shard-").partition("-")
    if fingerprint and fingerprint != fingerprint_file(path):
        raise ValueError("the file is not what was written")


def _example_ids(examples: Sequence[Example]) -> Tensor:
    return torch.tensor([example.id for example in examples], dtype=torch.int64)


def _ids_of(shards: Sequence[Shard]) -> Tensor:
    return torch.cat([torch.empty(0, dtype=torch.int64), *(shard.ids for shard in shards)])


def _join(shards: Sequence[Shard], ids: Tensor) -> Tensor:
    """The rows of ``ids`` (examples,), in that order, shape (examples, ...); only one shard at a time is in memory."""
    sorted_ids, order = _ids_of(shards).sort()
    # positions: of the needed rows in the concatenation of all shards, ascending; targets: the example of each
    positions, targets = order[torch.searchsorted(sorted_ids, ids)].sort()
    shard_ends = torch.tensor([len(shard.ids) for shard in shards], dtype=torch.int64).cumsum(0)
    bounds = [0, *torch.searchsorted(positions, shard_ends).tolist()]  # of each shard's part of positions
    joined = torch.empty(0)
    for shard, shard_end, begin, end in zip(shards, shard_ends.tolist(), bounds, bounds[1:], strict=False):
        if begin == end:
            continue
        rows = load_file(shard.path)["rows"]
        if not begin:
            joined = rows.new_empty(len(ids), *rows.shape[1:])
        joined[targets[begin:end]] = rows[positions[begin:end] - (shard_end - len(rows))]
    return joined
