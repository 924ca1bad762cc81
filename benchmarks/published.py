"""What a benchmark found, as everybody reads it: a table in Markdown and on the screen, all figures as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from distill.reporting.tables import markdown_table


def publish(target: Path, table: list[list[str]], said: str, found: dict[str, Any]) -> None:
    """Write ``target`` with the suffixes md (table, and below it what is said) and json (what was found), and print."""
    text = f"{markdown_table(table)}\n\n{said}\n"
    target.parent.mkdir(exist_ok=True)
    target.with_suffix(".md").write_text(text, encoding="utf-8")
    target.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(text)
