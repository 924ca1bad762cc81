"""Kill training, labelling, export and prediction at every system call that changes files, and at random moments.

python benchmarks/reliability/kills.py

After each kill, the same command is killed once more at a random call, then repeated until it ends. Its files must be
those of a job that was not killed, byte by byte (of JSON without durations; of Ray's files the rows), and nothing else
may be left. --stages and --every make it shorter. Writes benchmarks/reliability/kills.json.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import jobs  # noqa: E402
from injection import Injector  # noqa: E402
from jobs import Job, Reference  # noqa: E402

DISTINCT_ONLY = ("ray",)  # stages that take seconds to start: one kill per kind of call and file


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stages", nargs="+", choices=jobs.STAGES, default=jobs.STAGES)
    parser.add_argument("--random", type=int, default=200, help="kills at random moments, over all stages")
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th call")
    parser.add_argument("--distinct", action="store_true", help="one kill per kind of call and file, as with Ray")
    parser.add_argument("--formats", nargs="+", choices=jobs.FORMATS, default=jobs.FORMATS, help="of --mode predict")
    parser.add_argument("--rows", type=int, default=150, help="of each input of --mode predict")
    parser.add_argument("--bundle", type=Path, help="for the stages predict and ray alone; default: a trained one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=HERE / "kills.json")
    return parser.parse_args()


def calls_to_stop(reference: Reference, options: argparse.Namespace, *, distinct: bool) -> list[int]:
    """The numbers of the calls at which the job is killed."""
    numbered = list(enumerate(reference.outcome.calls, 1))
    if distinct:
        numbered = sorted({_kind(call): (number, call) for number, call in reversed(numbered)}.values())
    return [number for number, _ in numbered][:: options.every]


def _kind(call: str) -> str:
    """A call without what differs between two runs or two parts: hexadecimal digits in the file's name."""
    return re.sub("[0-9a-f]*[0-9][0-9a-f]*", "*", call)


def killed_at_calls(job: Job, reference: Reference, injector: Injector, options: argparse.Namespace) -> dict[str, Any]:
    """Kill the job at every call, and its repetition at a random one; the figures and what went wrong."""
    choices, kills, failures = jobs.random_generator(options.seed, job.name), 0, []
    distinct = options.distinct or job.name in DISTINCT_ONLY
    stops = calls_to_stop(reference, options, distinct=distinct)
    for number in stops:
        job.start_over()
        killed = [injector.run(job.arguments, at=number)]
        if not distinct:
            killed.append(injector.run(job.arguments, at=choices.randint(1, len(reference.outcome.calls))))
        kills += len([outcome for outcome in killed if outcome.was_killed or job.name == "ray"])  # or a worker's
        problems = [*_tracebacks(killed), *jobs.finish(job, injector, reference, killed[-1])]
        if problems:
            failures.append({"call": number, "what": reference.outcome.calls[number - 1], "problems": problems})
            print(f"{job.name}, call {number} ({reference.outcome.calls[number - 1]}): {problems}", flush=True)
    kinds = Counter(reference.outcome.calls[number - 1].partition(" ")[0] for number in stops)
    return {"calls": dict(kinds), "kills": kills, "failures": failures}


def killed_at_random(
    job: Job, reference: Reference, injector: Injector, kills: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Kill the job at random moments, one to four times before it may end."""
    choices, done, failures = jobs.random_generator(options.seed, f"{job.name}, random"), 0, []
    while done < kills:
        job.start_over()
        moments = []
        for _ in range(choices.randint(1, 4)):
            moments.append(choices.uniform(0, reference.outcome.seconds))
            outcome = injector.run(job.arguments, kill_after=moments[-1])
            done += outcome.was_killed
        if problems := [*_tracebacks([outcome]), *jobs.finish(job, injector, reference, outcome)]:
            failures.append({"seconds": moments, "problems": problems})
            print(f"{job.name}, killed after {moments} s: {problems}", flush=True)
    return {"kills": done, "failures": failures}


def _tracebacks(outcomes: list[Any]) -> list[str]:
    return [f"traceback: {outcome.printed[-500:]}" for outcome in outcomes if "Traceback" in outcome.printed]


def main() -> int:
    """Run all jobs; 1: a row was lost, doubled or changed, or a command did not end."""
    options = arguments()
    started, failures = time.perf_counter(), 0
    figures: dict[str, dict[str, Any]] = {}
    with jobs.prepared(options, "kills-") as (injector, all_jobs):
        for job in all_jobs:
            reference = Reference.of(job, injector)
            at_calls = killed_at_calls(job, reference, injector, options)
            share = 0 if job.name in DISTINCT_ONLY else options.random // max(1, len(set(options.stages) - {"ray"}))
            at_random = killed_at_random(job, reference, injector, share, options)
            figures[job.name] = {"at calls": at_calls, "at random moments": at_random}
            print(
                f"{job.name}: {at_calls['kills']} kills at {sum(at_calls['calls'].values())} calls, "
                f"{at_random['kills']} at random moments",
                flush=True,
            )
            failures = write_results(figures, started, options.output)
    return int(failures > 0)


def write_results(figures: dict[str, Any], started: float, output: Path) -> int:
    """Write the figures of the stages that are done; returns the number of failures."""
    parts = [part for stage in figures.values() for part in stage.values()]
    kills, failures = sum(part["kills"] for part in parts), sum(len(part["failures"]) for part in parts)
    jobs.write_record(output, "kills.py", started, {"kills": kills, "failures": failures, "stages": figures})
    print(f"{kills} kills, {failures} failures", flush=True)
    return failures


if __name__ == "__main__":
    sys.exit(main())
