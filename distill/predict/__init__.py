"""``--mode predict``: files of any size are labelled by a bundle; the rows stay as they are, labels are added."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from distill.config import Settings, UnsureSettings
from distill.errors import UserError
from distill.predict.checkpoint import Counts
from distill.predict.local import Labeller
from distill.predict.plan import FileJob, plan_jobs
from distill.progress import log
from distill.runtime.bundle import BUNDLE_CARD, EXPORT
from distill.storage.locks import LockHeldError, exclusive_lock
from distill.storage.run_folder import bundle_folder

__all__ = ["predict"]


def predict(settings: Settings) -> list[Path]:
    """Label the files of ``--input``; returns the files that were written.

    Raises:
        UserError: there is no bundle, an input or output cannot be used, or a row is bad and --strict is given.
    """
    bundle = bundle_folder(settings)
    if not (bundle / BUNDLE_CARD).is_file():
        raise UserError("there is no bundle here", bundle, f"{EXPORT}, or --bundle FOLDER")
    settings.unsure.check()
    if settings.unsure.reject_label and not settings.unsure.rejects:
        raise UserError("--reject_label has no effect without --reject_below", "settings", "--reject_below 0.6")
    started = time.perf_counter()
    if settings.predict.engine == "ray":
        from distill.predict.ray_engine import label

        counts, files = label(bundle, settings)
    else:
        counts, files = _label_locally(plan_jobs(settings.predict), bundle, settings)
    seconds = time.perf_counter() - started
    rate = f"{counts.rows / seconds:,.0f}"
    log.info("%s rows, %s, %.1f s, %s rows/s", f"{counts.rows:,}", _counted(counts.bad, "bad row"), seconds, rate)
    _log_unsure(counts, settings.unsure)
    return files


def _log_unsure(counts: Counts, unsure: UnsureSettings) -> None:
    """A line on the rows that the teacher labelled, and one on those that have no label."""
    if unsure.cascade:
        why = f"the student's probability is below {unsure.cascade_limits}"
        log.info("labelled by the teacher: %s of %s rows (%s)", f"{counts.by_teacher:,}", f"{counts.rows:,}", why)
    if unsure.rejects:
        why = f"the probability is below {unsure.rejection_limits}"
        log.info("rejected: %s of %s rows (%s)", f"{counts.rejected:,}", f"{counts.rows:,}", why)


def _label_locally(jobs: list[FileJob], bundle: Path, settings: Settings) -> tuple[Counts, list[Path]]:
    """Label one input after the other. The counts leave out what an earlier, interrupted run had done."""
    labeller = Labeller(bundle, settings)
    finished = []
    for job in jobs:
        if job.output is None:
            labeller.to_stream(job)
        else:
            with exclusive_lock(job.output):
                finished.append(labeller.to_file(job, job.output))
    for parts in finished:
        with contextlib.suppress(LockHeldError), exclusive_lock(parts.output):  # who holds the lock now removes them
            if parts.are_joined:
                parts.remove()
    return labeller.counts, [file for parts in finished for file in parts.files]


def _counted(count: int, noun: str) -> str:
    """``no bad row``, ``1 bad row``, ``2 bad rows``."""
    return f"{f'{count:,}' if count else 'no'} {noun}{'s' * (count > 1)}"
