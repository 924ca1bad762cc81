"""Puts the table of benchmarks/tnews5/report.json into README.md and README.zh.md."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from distill.report.tables import markdown_table  # noqa: E402

REPORT = ROOT / "benchmarks" / "tnews5" / "report.json"
PLACE = re.compile(r"(<!-- table: \S+ -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_table(readme: str) -> str:
    """The README's text with the table as it should be."""
    table = markdown_table(json.loads(REPORT.read_text(encoding="utf-8"))["rows"])
    return PLACE.sub(lambda match: f"{match[1]}{table}\n{match[2]}", readme)


if __name__ == "__main__":
    for name in ("README.md", "README.zh.md"):
        path = ROOT / name
        path.write_text(with_table(path.read_text(encoding="utf-8")), encoding="utf-8")
