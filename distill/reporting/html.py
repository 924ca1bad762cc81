"""HTML pages: one file each, without outside addresses, all texts escaped; the one script switches the language."""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.reporting.plots import svg
from distill.storage.atomic import write_file
from distill.translation import Text

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure

SCRIPT = Path(__file__).with_name("language.js")


@dataclass(frozen=True)
class Drawing:
    """A figure on a page, as an ``svg`` element."""

    svg: str
    caption: str

    @staticmethod
    def of(figure: Figure, caption: str) -> Drawing:
        """Draw a matplotlib figure."""
        return Drawing(svg(figure), caption)


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Render a template of this folder with ``content`` and write the page."""
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _templates().get_template(template).render(content, script=script, script_hash=f"sha256-{digest}")
    # UTF-8 has no lone surrogates, which JSON files may hold, and HTML allows no NUL
    return write_file(path, page.replace("\0", "�").encode("utf-8", "replace"))


@functools.cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["t"] = Text
    return environment


def settings_sections(settings: Mapping[str, Any], **others: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings as flat sections of names and values; names of deeper levels are joined with dots."""
    return {name: dict(_flat("", section)) for name, section in {**settings, **others}.items()}


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(f"{prefix}.{name}" if prefix else name, inner)]
    if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        return [pair for number, inner in enumerate(value, 1) for pair in _flat(f"{prefix} {number}", inner)]
    return [(prefix, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value)]
