"""Compare the rows that the kernels find in random files with those that Python finds, under the sanitizers of gcc.

python benchmarks/reliability/rows.py

The files have the beginning of a table, JSON lines or plain text, then usual rows, unusual ones and bytes that are
invalid; they are read in blocks and chunks of random sizes. Output, texts, bad rows and positions must be equal, and
AddressSanitizer and UndefinedBehaviorSanitizer must find nothing. Every block of a file ends where its memory ends.
Needs gcc with its sanitizers. Writes benchmarks/reliability/rows.json; exits with 1 if there was a finding.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from jobs import command_line  # noqa: E402
from kernels import BUILDS, run_build  # noqa: E402
from random_files import BEGINNINGS, labelled, random_content  # noqa: E402

from distill.data.formats import tables, text_lines  # noqa: E402
from distill.runtime import native  # noqa: E402

LIMITS = {  # module, setting, and values of which one is drawn for every file
    "BLOCK": (text_lines, (1, 7, 64, 2**20)),
    "CHUNK_ROWS": (text_lines, (1, 3, 2048)),
    "CHUNK_BYTES": (text_lines, (16, 2**20)),
    "MAX_LINE": (text_lines, (40, 2**20)),
    "MAX_ROW_LINES": (tables, (2, 64)),
    "MAX_ROW_SIZE": (tables, (30, 2**20)),
}
BUILD = "memory"


def worker(files: int) -> Counter[str]:
    """Read files with the kernels and with Python, in this process."""
    native.FLAGS += ("-O1",)  # the last one counts: compiling takes a fifth of the time
    counts: Counter[str] = Counter()
    random = np.random.default_rng(0)
    for number in range(files):
        name = list(BEGINNINGS)[number % len(BEGINNINGS)]
        content = random_content(name, random)
        for limit, (module, values) in LIMITS.items():
            setattr(module, limit, values[random.integers(len(values))])
        found, expected = labelled(content, name), labelled(content, name, by_kernels=False)
        if found != expected:
            raise SystemExit(f"{name} {content!r}: {found} instead of {expected}")
        counts.update({"files": 1, "rows": len(found[1]), "bad rows": len(found[2]), "chunks": len(found[3])})
    return counts


def main() -> None:
    """Compare the files, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6_000, help="random files")
    parser.add_argument("--out", type=Path, default=HERE / "rows.json", help="file of the results")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(worker(arguments.files)))
        return
    with tempfile.TemporaryDirectory() as folder:
        flags, march, library, _ = BUILDS[BUILD]
        result = run_build(flags, march, library, [__file__, "--worker", "--files", str(arguments.files)], Path(folder))
    print(json.dumps(result, indent=2))
    result = {"command": command_line("rows.py"), **result}
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(result["findings"]))


if __name__ == "__main__":
    main()
