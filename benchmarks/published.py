"""Publish the result of a benchmark: a table in Markdown and on the screen, and all figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.reporting.tables import markdown_table


def shown(value: float | None, sd: float | None = None) -> str:
    """A score with its standard deviation over the seeds, if it has one; "-" for none."""
    if value is None:
        return "-"
    return f"{value:.4f}" if sd is None else f"{value:.4f} ± {sd:.4f}"


def publish(target: Path, table: list[list[str]], note: str, figures: dict[str, Any]) -> None:
    """Write ``target`` as .md (the table with the note below it) and as .json (the figures), and print the table."""
    text = f"{markdown_table(table)}\n\n{note}\n"
    target.parent.mkdir(exist_ok=True)
    target.with_name(f"{target.name}.md").write_text(text, encoding="utf-8")
    target.with_name(f"{target.name}.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(text)
