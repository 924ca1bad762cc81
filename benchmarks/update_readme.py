"""Write the tables of benchmarks/*/*.json into README.md and README.zh.md."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from distill.reporting import comparison, speed  # noqa: E402
from distill.reporting.comparison_record import ComparisonRow  # noqa: E402
from distill.reporting.results import from_json  # noqa: E402
from distill.reporting.speed import SpeedRow  # noqa: E402
from distill.reporting.tables import markdown_table  # noqa: E402

TABLE = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def with_tables(readme: str) -> str:
    """Return the README with its tables generated from the JSON files."""

    def table(match: re.Match[str]) -> str:
        rows = json.loads((ROOT / match[2]).read_text(encoding="utf-8"))["rows"]
        if "us_per_text" in rows[0]:
            lines = speed.short_lines([from_json(SpeedRow, row) for row in rows])
        else:
            lines = comparison.short_lines([from_json(ComparisonRow, row) for row in rows])
        return f"{match[1]}{markdown_table(lines)}\n{match[3]}"

    return TABLE.sub(table, readme)


if __name__ == "__main__":
    for name in ("README.md", "README.zh.md"):
        path = ROOT / name
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
