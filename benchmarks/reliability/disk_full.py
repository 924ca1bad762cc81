"""Fill the disk under training, labelling, export and prediction, and let single system calls fail.

python benchmarks/reliability/disk_full.py

Two parts. As root, each job runs on a file system in memory that has room for none, one eighth, … seven eighths of
what the job writes. On any machine, the calls of a job fail one after the other: from this call on with ENOSPC, or this
call alone with EDQUOT, EIO or ENOSPC. Each time the command must end with one line that says what is wrong (or succeed,
where only a cleanup failed), leave no unfinished file, and after that, with room on the disk, end with the files of a
job that never failed. Writes benchmarks/reliability/disk_full.json.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import jobs  # noqa: E402
from injection import Injector, Outcome  # noqa: E402
from jobs import Job, Reference  # noqa: E402

SIZES = 8
LARGE_MB = 256
STAGES = [stage for stage in jobs.STAGES if stage != "ray"]
FAULTS = {"full from here on": (errno.ENOSPC, True), "full": (errno.ENOSPC, False)}
FAULTS |= {"quota": (errno.EDQUOT, False), "input/output error": (errno.EIO, False)}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=FAULTS)
    parser.add_argument("--every", type=int, default=5, help="let every n-th call fail")
    parser.add_argument("--rows", type=int, default=150, help="of each input of --mode predict")
    parser.add_argument("--bundle", type=Path, help="for the stage predict alone; default: a trained one")
    parser.add_argument("--formats", nargs="+", choices=jobs.FORMATS, default=jobs.FORMATS)
    parser.add_argument("--disks", action=argparse.BooleanOptionalAction, default=os.geteuid() == 0, help="mount disks")
    parser.add_argument("--output", type=Path, default=HERE / "disk_full.json")
    return parser.parse_args()


def problems_of(failed: Outcome, job: Job, injector: Injector, reference: Reference) -> list[str]:
    """What is wrong after a failure: its message, what it left, and what the repeated command leaves."""
    last = failed.printed.strip().rpartition("\n")[2]
    problems = ["traceback: " + failed.printed[-500:]] if "Traceback" in failed.printed else []
    if failed.code not in (0, 2) or (failed.code == 2 and not (last.startswith("error: ") and " -> " in last)):
        problems.append(f"ends with {failed.code}: {last}")
    parts = (path for path in job.root.rglob("*.distill-aside") if path.exists())
    problems += [f"unfinished: {path.relative_to(job.root)}" for path in parts]
    return problems + jobs.finish(job, injector, reference, failed)


def failing_calls(job: Job, reference: Reference, injector: Injector, fault: str, every: int) -> dict[str, Any]:
    """Let calls fail, one per run."""
    code, lasting = FAULTS[fault]
    ends: Counter[str] = Counter()
    failures = []
    for number in range(1, len(reference.outcome.calls) + 1, every):
        job.start_over()
        failed = injector.run(job.arguments, at=number, error=code, lasting=lasting)
        ends["an error" if failed.code else "success"] += 1
        if problems := problems_of(failed, job, injector, reference):
            failures.append({"call": number, "what": reference.outcome.calls[number - 1], "problems": problems})
            print(f"{job.name}, {fault}, call {number} ({reference.outcome.calls[number - 1]}): {problems}", flush=True)
    return {**ends, "failures": failures}


@contextlib.contextmanager
def disk_in_memory(folder: Path) -> Iterator[None]:
    """Mount a file system in memory; only for root."""
    folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "-t", "tmpfs", "-o", f"size={LARGE_MB}m", "none", str(folder))
    try:
        yield
    finally:
        _run("umount", "-l", str(folder))


def resize(folder: Path, kilobytes: int) -> None:
    """Change the size of the file system."""
    _run("mount", "-o", f"remount,size={kilobytes}k", str(folder))


def used(folder: Path) -> int:
    """Kilobytes in use."""
    status = os.statvfs(folder)
    return (status.f_blocks - status.f_bfree) * status.f_frsize // 1024


def _run(*command: str) -> None:
    subprocess.run(command, check=True)  # noqa: S603


def full_disks(job: Job, injector: Injector) -> dict[str, Any]:
    """Run the job on disks of eight sizes."""
    sizes, messages, failures = [], [], []
    with disk_in_memory(job.root):
        job.start_over()
        before = used(job.root)
        reference = Reference.of(job, injector)
        needed = used(job.root) - before
        for eighth in range(SIZES):
            job.start_over()
            sizes.append(needed * eighth // SIZES)
            resize(job.root, used(job.root) + max(sizes[-1], 4 * (eighth == 0)))
            failed = injector.run(job.arguments)
            messages.append(failed.printed.strip().rpartition("\n")[2] if failed.code else "success")
            resize(job.root, LARGE_MB * 1024)
            if problems := problems_of(failed, job, injector, reference):
                failures.append({"kilobytes": sizes[-1], "problems": problems})
                print(f"{job.name}, {sizes[-1]} kB free: {problems}", flush=True)
    shown = sorted({message.replace(str(job.root), "") for message in messages})
    return {"needed kB": needed, "free kB": sizes, "messages": shown, "failures": failures}


def main() -> int:
    """Run all jobs; 1: a command ended without a clear error, or a row was lost."""
    options = arguments()
    started = time.perf_counter()
    figures: dict[str, dict[str, Any]] = {}
    with jobs.prepared(options, "disk-full-") as (injector, all_jobs):
        for job in all_jobs:
            reference = Reference.of(job, injector)
            figures[job.name] = {
                fault: failing_calls(job, reference, injector, fault, options.every) for fault in options.faults
            }
            if options.disks:
                figures[job.name]["disks"] = full_disks(job, injector)
            else:
                print("the disks of eight sizes are left out; mounting them needs root")
            print(f"{job.name}: {json.dumps(figures[job.name], ensure_ascii=False)[:600]}", flush=True)
    failures = sum(len(part["failures"]) for stage in figures.values() for part in stage.values())
    jobs.write_record(options.output, "disk_full.py", started, {"failures": failures, "stages": figures})
    print(f"{failures} failures")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
