"""Write the tables that are generated from the code: modes and flags in reference.md, arrays in runtime.md."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "docs" / name for name in ("reference.md", "runtime.md")]
sys.path.insert(0, str(ROOT))

from distill.config import MODES  # noqa: E402
from distill.config.argparse import parser  # noqa: E402
from distill.runtime import schema  # noqa: E402

MARKED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """The page with its tables replaced by current ones."""
    command_flags, *sections = parser()._action_groups[1:]  # the first is argparse's own, and empty
    tables = {
        "modes": _modes(),
        "command": _flags(command_flags),
        "flags": "\n\n".join(map(_section, sections)),
        "arrays": _arrays(),
    }
    return MARKED.sub(lambda match: f"{match[1]}{tables[match[2]]}\n{match[3]}", page)


def _arrays() -> str:
    """The arrays of a bundle, and below them the sizes in their shapes."""
    groups = {"every bundle": (*schema.WORDS, *schema.LEXICON, schema.CLASSIFIER_BIAS), "n-grams": (schema.ROW_OF,)}
    for architecture, (network, ngrams) in schema.NETWORK_ARRAYS.items():
        groups |= {f"`{architecture}`": network, f"`{architecture}`, n-grams": ngrams}
    for cell, network in schema.CELL_ARRAYS.items():
        groups |= {f"`bilstm` of {cell}": network}
    rows = [
        [f"`{spec.name}`", spec.dtype, f"({', '.join(spec.shape)})", spec.range, spec.meaning, group]
        for group, specs in groups.items()
        for spec in specs
    ]
    sizes = [[f"`{name}`", size.meaning, f"{size.low:,} to {size.high:,}"] for name, size in schema.SIZES.items()]
    arrays = _table(["array", "type", "shape", "values", "holds", "present in"], rows)
    return f"{arrays}\n\n{_table(['size', 'is', 'from … to'], sizes)}"


def _modes() -> str:
    rows = [
        [f"`{name}`", mode.summary, ", ".join(f"[{section}](#{section})" for section in mode.sections)]
        for name, mode in MODES.items()
    ]
    return _table(["mode", "what it does", "sections it uses"], rows)


def _section(group: argparse._ArgumentGroup) -> str:
    used_by = [name for name, mode in MODES.items() if group.title in mode.sections]
    by = ", ".join(f"`{name}`" for name in used_by) or "every mode"
    return f"## {group.title}\n\n{group.description} Used by {by}.\n\n{_flags(group)}"


def _flags(group: argparse._ArgumentGroup) -> str:
    return _table(["flag", "meaning"], [[_names(action), _meaning(action)] for action in group._group_actions])


def _names(action: argparse.Action) -> str:
    """A flag's names and its value, as in ``--help``."""
    value = "" if action.nargs == 0 else f" {action.metavar or '{' + ','.join(action.choices or ()) + '}'}"
    return ", ".join(f"`{name}{value}`" for name in action.option_strings)


def _meaning(action: argparse.Action) -> str:
    return str(action.help).replace("%%", "%").replace("|", "\\|")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(with_tables(path.read_text(encoding="utf-8")), encoding="utf-8")
