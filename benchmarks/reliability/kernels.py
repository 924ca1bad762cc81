"""Run the kernels with AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer on hostile texts and bundles.

python benchmarks/reliability/kernels.py

Every text goes through every network, and so does arbitrary UTF-8: invalid bytes, spans that begin and end within
characters. Every damaged bundle (random_bundles.py) must be refused with a UserError or give
finite probabilities. The kernels are compiled for this processor, and with sixteen lanes (the array layout of AVX-512)
for any; ThreadSanitizer watches two threads that share a bundle. Needs gcc with its sanitizers. Writes
benchmarks/reliability/kernels.json; exits with 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from jobs import command_line, machine  # noqa: E402
from random_bundles import (  # noqa: E402
    all_bundles,
    damaged_bundle,
    random_buffer,
    random_texts,
    to_bytes,
    write_bundle,
)

from distill.errors import UserError  # noqa: E402
from distill.runtime import Runtime, native  # noqa: E402

MEMORY = "-fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all"
# kind -> flags of gcc, -march, the library that is loaded first, threads
BUILDS = {
    "memory": (MEMORY, "native", "libasan.so", 1),
    "memory, sixteen lanes": (f"{MEMORY} -DSIXTEEN_LANES", "x86-64", "libasan.so", 1),
    "threads": ("-fsanitize=thread", "native", "libtsan.so", 2),
}
OPTIONS = {  # Python keeps memory until it ends, which is no leak of the kernels
    "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:exitcode=99",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "exitcode=99:halt_on_error=1",
    "OMP_NUM_THREADS": "1",
}
FINDING = re.compile(r"(?:ERROR|WARNING): \w+Sanitizer: .*|.*: runtime error: .*")
CHUNK = 256  # texts that a thread takes at a time
BUFFER = 16  # texts of which a buffer of arbitrary UTF-8 is made: few, as its end is where reading too far is noticed
SAMPLE = ["", "İ" * 60, "球队今天公布", "银行股票大涨😀 5g", "a" * 60, "[UNK]手机\ud800", "\u200b"]


def check(build: str, texts: int, bundles: int, cache: Path) -> dict[str, Any]:
    """Run one build in a process of its own; returns counts and findings."""
    flags, march, library, threads = BUILDS[build]
    numbers = ["--texts", str(texts), "--bundles", str(bundles), "--threads", str(threads)]
    return run_build(flags, march, library, [__file__, "--worker", *numbers], cache)


def run_build(flags: str, march: str, library: str, command: list[str], cache: Path) -> dict[str, Any]:
    """Run a Python script with kernels that are compiled with these flags; returns what it printed, and findings."""
    query = ["gcc", f"-print-file-name={library}"]
    found = subprocess.run(query, capture_output=True, text=True, check=True)  # noqa: S603
    variables = {"PYTHONMALLOC": "malloc"} if "address" in flags else {}  # so that every array has its limits checked
    variables |= {"CC": f"gcc {flags} -g", "DISTILL_MARCH": march, "DISTILL_CACHE": str(cache / library)}
    environment = {**os.environ, **OPTIONS, **variables, "LD_PRELOAD": found.stdout.strip()}
    # without random addresses: ThreadSanitizer does not know where some kernels place programs
    command = ["setarch", "--addr-no-randomize", sys.executable, *command]
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    findings = FINDING.findall(done.stderr)
    counts = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else {}
    if done.returncode and not findings:
        findings = [f"exit status {done.returncode}: {done.stderr.strip()[-2000:]}"]
    return {**counts, "findings": findings, "seconds": round(time.perf_counter() - started)}


def worker(texts: int, bundles: int, threads: int) -> Counter[str]:
    """Label texts with every network, and load damaged bundles, in this process."""
    native.FLAGS += ("-O1",)  # the last one counts: compiling takes a fifth of the time
    counts: Counter[str] = Counter()
    bases = list(all_bundles().values())
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folders = [
            write_bundle(Path(folder, str(number)), card, to_bytes(arrays))
            for number, (card, arrays) in enumerate(bases)
        ]
        sound = [Runtime(folder) for folder in folders] if threads == 1 else []
        size = CHUNK if threads == 1 else 8 * CHUNK  # of a call; threads share one that is longer than a chunk
        for first in range(0, texts, size):
            some = list(random_texts(random, min(size, texts - first)))
            # threads get new bundles, as they compute a word's projections when it first occurs
            for runtime in sound or (Runtime(folder, threads) for folder in folders):
                check_probabilities(runtime, some)
                check_buffers(runtime, some, random)
            counts["texts"] += len(some)
            counts["texts through a network"] += len(some) * len(folders)
        for number in range(bundles):
            card, content = damaged_bundle(*bases[number % len(bases)], random)
            try:
                runtime = Runtime(write_bundle(Path(folder, "damaged"), card, content), threads)
            except UserError:
                counts["bundles refused"] += 1
            else:
                counts["bundles accepted"] += 1
                check_probabilities(runtime, SAMPLE * (1 if threads == 1 else CHUNK // 4))
    return counts


def check_probabilities(runtime: Runtime, texts: list[str]) -> None:
    """Fail unless every text gets finite probabilities."""
    probabilities = runtime.flat_proba(texts)
    if probabilities.shape != (len(texts), len(runtime.labels)) or not np.isfinite(probabilities).all():
        raise SystemExit("a probability is missing or not finite")


def check_buffers(runtime: Runtime, texts: list[str], random: np.random.Generator) -> None:
    """Fail unless spans of arbitrary UTF-8 get finite logits, the same ones when a span is a buffer of its own."""
    for first in range(0, len(texts), BUFFER):
        content, spans = random_buffer(random, texts[first : first + BUFFER])
        logits, (begin, end) = runtime.logits_of_utf8(content, spans), spans[-1].tolist()
        alone = runtime.logits_of_utf8(content[begin:end], np.array([[0, end - begin]]))
        if not np.isfinite(logits).all() or not np.array_equal(logits[-1:], alone):
            raise SystemExit("a logit is not finite, or depends on the bytes around the text")


def main() -> None:
    """Check every build, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--texts",
        type=int,
        default=100_000,
        help="random texts, and as many spans of bytes, for every network and build",
    )
    parser.add_argument("--bundles", type=int, default=3_000, help="damaged bundles for every build")
    parser.add_argument("--build", choices=BUILDS, action="append", help="check only this build (may be repeated)")
    parser.add_argument("--out", type=Path, default=HERE / "kernels.json", help="file of the results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.texts, arguments.bundles, arguments.threads)))
        return
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for build in arguments.build or BUILDS:
            results[build] = check(build, arguments.texts, arguments.bundles, Path(folder))
            print(build, json.dumps(results[build], indent=2), flush=True)
    counts = {"texts": arguments.texts, "bundles": arguments.bundles, "networks": len(all_bundles())}
    result = {"command": command_line("kernels.py"), "machine": machine(), **counts, "builds": results}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(any(one["findings"] for one in results.values()))


if __name__ == "__main__":
    main()
