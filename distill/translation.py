"""The texts that report.html and compare.html show, in English and Chinese.

A text is written in English where it is used. Its Chinese form stands in zh.toml, under the English one.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Self

DICTIONARY = Path(__file__).with_name("zh.toml")


class Text(str):
    """An English text that the pages also show in Chinese; everywhere else it is an ordinary string.

    Args:
        template: the English text with {placeholders}, the key of its translation.
        values: of the placeholders; a value may be a ``Text`` too.
    """

    template: str
    values: dict[str, object]

    def __new__(cls, template: str, **values: object) -> Self:
        """A text with its placeholders filled in; a text that is one already stays as it is."""
        if isinstance(template, cls):
            return template
        text = super().__new__(cls, template.format(**values) if values else template)
        text.template, text.values = template, values
        return text

    @property
    def chinese(self) -> str:
        """The Chinese text; the English one if it has no translation."""
        template = translations().get(self.template)
        if template is None:
            return str(self)
        values = {name: value.chinese if isinstance(value, Text) else value for name, value in self.values.items()}
        return template.format(**values) if values else template

    def __html__(self) -> str:
        """Both languages, of which the page shows one; a text without a translation as it is."""
        english, chinese = escape(str(self)), escape(self.chinese)
        if english == chinese:
            return english
        return f'<span class="en" lang="en">{english}</span><span class="zh" lang="zh">{chinese}</span>'


class Listed(Text):
    """Several texts, joined by a mark that each language has."""

    parts: list[str]
    mark: str

    def __new__(cls, texts: Iterable[str], mark: str = "; ", chinese_mark: str = "；") -> Self:
        """The texts in their order."""
        parts = list(texts)
        listed = super().__new__(cls, mark.join(parts))
        listed.parts, listed.mark = parts, chinese_mark
        return listed

    @property
    def chinese(self) -> str:
        """The Chinese texts."""
        return self.mark.join(part.chinese if isinstance(part, Text) else part for part in self.parts)


@functools.cache
def translations() -> dict[str, str]:
    """Chinese texts by their English ones, each with the same {placeholders}."""
    tables = tomllib.loads(DICTIONARY.read_text(encoding="utf-8"))
    return {english: chinese for table in tables.values() for english, chinese in table.items()}
