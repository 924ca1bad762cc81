"""The overview of a run of several tasks: a row per task and model, and links to the tasks' own reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distill.data.examples import MICRO_F1
from distill.reporting.results import TITLES
from distill.reporting.tables import Column, decimals, lines_of, markdown_table, percent, text_table
from distill.storage.atomic import write_file, write_json

Row = Mapping[str, Any]
REPORT = "report.json"
COLUMNS: list[Column[Row]] = [
    Column("task", lambda row: row["task"]),
    Column("model", lambda row: TITLES[row["name"]]),
    Column("test texts", lambda row: row["test"]),
    Column("measured", lambda row: row["measured"]),
    Column("score", lambda row: row[row["key"]], decimals(4), lambda row: row.get(f"{row['key']}_sd")),
    Column("kept", lambda row: row["kept"], percent(1)),
    Column("seeds", lambda row: row["seeds"]),
]


def write_overview(folder: Path, reports: Mapping[str, Path]) -> tuple[str, list[Path]]:
    """Write report.json (``tasks``: the report of every task) and report.md (the table).

    Args:
        folder: of the files.
        reports: the folder of every task's report, by the task's name; within the parent of ``folder``.

    Returns:
        The table as text, and the files.
    """
    records = {name: json.loads((path / REPORT).read_text(encoding="utf-8")) for name, path in reports.items()}
    rows = [{**_task(name, record), **row} for name, record in records.items() for row in record["rows"]]
    lines = lines_of(rows, COLUMNS)
    links = "".join(f"- [{name}](../{path.relative_to(folder.parent)}/report.html)\n" for name, path in reports.items())
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_json(folder / REPORT, {"tasks": records})]
    written.append(write_file(folder / "report.md", f"# Tasks\n\n{markdown_table(lines)}\n\n{links}"))
    return "\n".join(text_table(lines)), written


def _task(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows of a task share."""
    key = "micro_f1" if record["measured"] == MICRO_F1 else "accuracy"
    return {"task": name, "measured": record["measured"], "key": key, "test": record["data"]["test"]}
