"""HTML pages: one file each, without script or outside address, all that is said in them escaped."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from distill.reporting.plots import svg
from distill.storage.atomic import write_file

if TYPE_CHECKING:
    from jinja2 import Environment
    from matplotlib.figure import Figure


class Drawn(NamedTuple):
    """A figure for a page."""

    svg: str
    caption: str


def drawn(figure: Figure, caption: str) -> Drawn:
    """A figure with what is to be seen in it."""
    return Drawn(svg(figure), caption)


def write_page(path: Path, template: str, content: Mapping[str, Any]) -> Path:
    """Write a template of this folder, filled with ``content``."""
    page = _templates().get_template(template).render(content)
    # a lone half of a surrogate pair, which JSON files may hold, has no UTF-8; a NUL no place in a page
    return write_file(path, page.replace("\0", "�").encode("utf-8", "replace"))


@functools.cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def sections(settings: Mapping[str, Any], **more: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings as sections of names and values, one level deep: what lies deeper gets a name with a dot."""
    return {name: dict(_flat("", named)) for name, named in {**settings, **more}.items()}


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [pair for name, inner in value.items() for pair in _flat(f"{prefix}.{name}" if prefix else name, inner)]
    if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value):
        return [pair for place, inner in enumerate(value, 1) for pair in _flat(f"{prefix} {place}", inner)]
    return [(prefix, ", ".join(map(str, value)) if isinstance(value, list | tuple) else value)]
