"""The overviews of several tasks: of their reports and of their comparisons, with links to the tasks' own pages."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from distill.data.examples import MICRO_F1
from distill.reporting.comparison_record import LINEAR, ComparisonRecord, ComparisonRow, measured_of
from distill.reporting.results import TITLES
from distill.reporting.tables import Column, Lines, decimals, lines_of, markdown_table, percent, text_table
from distill.storage.atomic import write_file, write_json

Row = Mapping[str, Any]
SPECIAL, ESCAPED = re.compile(r"[\\\[\]`*_<]"), r"\\\g<0>"
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
    records = _contents(reports, "report")
    rows = [{**_task(name, record), **row} for name, record in records.items() for row in record["rows"]]
    return _written(folder, "report", "# Tasks", lines_of(rows, COLUMNS), contents=records, pages=reports)


def write_comparison_overview(folder: Path, comparisons: Mapping[str, Path]) -> tuple[str, list[Path]]:
    """Write compare.json (``tasks``: the comparison of every task) and compare.md (a row per model, a column per task).

    Arguments and results are as for :func:`write_overview`.
    """
    contents = _contents(comparisons, "compare")
    records = {name: ComparisonRecord.from_json(content) for name, content in contents.items()}
    by_name = {name: {_name(row): row for row in record.rows} for name, record in records.items()}
    models = dict.fromkeys(model for rows in by_name.values() for model in rows)
    columns: list[Column[str]] = [Column("", str), *(_score_column(name, rows) for name, rows in by_name.items())]
    columns.append(Column("mean", lambda model: _mean([rows.get(model) for rows in by_name.values()]), decimals(4)))
    lines = lines_of(list(models), columns)
    return _written(folder, "compare", "# Comparison of several tasks", lines, contents=contents, pages=comparisons)


def _contents(pages: Mapping[str, Path], name: str) -> dict[str, Any]:
    """What NAME.json in the folder of every task holds, by the task's name."""
    return {task: json.loads((path / f"{name}.json").read_text(encoding="utf-8")) for task, path in pages.items()}


def _name(row: ComparisonRow) -> str:
    """What a model is called for all tasks; a linear baseline of several labels per text has another name."""
    return row.student if row.objective == LINEAR else row.name


def _score_column(task: str, rows: Mapping[str, ComparisonRow]) -> Column[str]:
    """The scores of the models for a task."""
    measured = measured_of(list(rows.values()))
    return Column(
        f"{task}, {measured}",
        lambda model: rows[model].main if model in rows else None,
        decimals(4),
        lambda model: rows[model].main_sd if model in rows and rows[model].seeds > 1 else None,
    )


def _mean(rows: Sequence[ComparisonRow | None]) -> float | None:
    """The mean of a model's scores over the tasks; None if it has no row for one of them."""
    scores = [row.main for row in rows if row is not None]
    return fmean(scores) if len(scores) == len(rows) else None


def _written(
    folder: Path, name: str, title: str, lines: Lines, *, contents: Mapping[str, Any], pages: Mapping[str, Path]
) -> tuple[str, list[Path]]:
    """Write an overview: NAME.json with the contents of the tasks' own, and NAME.md with a table and links to pages."""
    paths = {task: f"../{path.relative_to(folder.parent).as_posix()}/{name}.html" for task, path in pages.items()}
    links = "".join(f"- {_link(task, path)}\n" for task, path in paths.items())
    folder.mkdir(parents=True, exist_ok=True)
    written = [write_json(folder / f"{name}.json", {"tasks": contents})]
    written.append(write_file(folder / f"{name}.md", f"{title}\n\n{markdown_table(lines)}\n\n{links}"))
    return "\n".join(text_table(lines)), written


def _task(name: str, record: Mapping[str, Any]) -> dict[str, Any]:
    """What the rows of a task share."""
    key = "micro_f1" if record["measured"] == MICRO_F1 else "accuracy"
    return {"task": name, "measured": record["measured"], "key": key, "test": record["data"]["test"]}


def _link(text: str, path: str) -> str:
    """A Markdown link, whose text and path may hold characters that Markdown reads as its own."""
    return f"[{SPECIAL.sub(ESCAPED, text)}]({quote(path)})"
