"""Files of usual, unusual and damaged rows in every text format, and what ``--mode predict`` makes of them.

``rows.py`` and tests/data/test_row_scanner.py compare the rows that the kernels find with those that Python finds.
"""

from __future__ import annotations

import dataclasses
import io
import json
from itertools import chain
from typing import Any

import numpy as np

from distill.data.formats import open_lines
from distill.data.formats.labelling import BadRow, OutputSpec, Position, Predictions

LABELS = ("体育", 'a,"b"\t%s')
SPEC = OutputSpec(LABELS, False)

BEGINNINGS = {  # by name, which ends with the suffix: what shows the format and the encoding
    "commas.csv": "id,title\n" + "1,第一条\n" * 12,
    "excel.csv": "\ufeffid,标题\r\n" + "1,第一条\r\n" * 12,
    "semicolons.csv": "title;label\n" + "第一条;a\n" * 12,
    "tabs.tsv": "id\ttext\tlabel\n" + "1\t第一条\ta\n" * 12,
    "quoted.tsv": '"id"\t"text"\n' + '"1"\t"第""条"\n' * 12,
    "one column.csv": "text\n" + "第一条\n" * 12,
    "no header.csv": "".join(f"{'甲乙'[number % 2]},第{number}条新闻\n" for number in range(12)),
    "objects.jsonl": '{"id": 1, "text": "第一条"}\n' * 12,
    "texts.txt": "第一条\n" * 12,
    "marked texts.txt": "\ufeff" + "第一条\n" * 12,
    "label last.txt": "".join(f"第{number}条新闻今天\t{'ab'[number % 2]}\n" for number in range(12)),
    "label first.txt": "".join(f"{'ab'[number % 2]}\t第{number}条新闻今天\n" for number in range(12)),
}
PIECES = [
    *(
        '"',
        '""',
        '"字"',
        '","',
        '",',
        ',"',
        ",",
        ";",
        "\t",
        "\n",
        "\r\n",
        "\r",
        " ",
        "字",
        "好新闻",
        "a",
        "1",
        "-1.5e3%",
    ),
    *("=1", "＠", "\u3000", "\ufeff", "\u200b", "\u2028", "\x85", "\x1c", "\x00", "😀", "\x7f", "\u00ad", "\U000e0020"),
]
INVALID = [b"\xff", b"\xe4\xb8", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\xf0\x9f"]
JSON_PIECES = [
    *(
        "{",
        "}",
        "[",
        "]",
        ":",
        ",",
        '"text"',
        '"id"',
        '"',
        "\\",
        '"a": 1',
        '"text": "字"',
        "true",
        "null",
        "NaN",
        "-0.5e+7",
    ),
    *("1.", "01", '"\\ud83d\\ude00"', '"\\ud83d"', '"\\u5b57\\n"', '"\\u12g4"', '"predicted": 1', '"annotations": []'),
    *(
        '{"text": "好"}\n',
        '{"id": [1, {"a": {}}], "text": "\\t好\\u0000 "}\n',
        '{"text": 3}\n',
        " ",
        "\t",
        "\n",
        "\r\n",
    ),
]


def usual_rows(name: str) -> list[bytes]:
    """Rows as in the beginning of the file, and unusual ones."""
    if name.endswith(".jsonl"):
        objects: list[Any] = [
            {"text": "好\t\\\"'"},
            {"text": " "},
            {"a": {"text": "x"}, "text": "y\u200b"},
            {"text": None},
        ]
        return [
            json.dumps(item, ensure_ascii=is_ascii).encode() + b"\n" for item in objects for is_ascii in (False, True)
        ]
    lines = BEGINNINGS[name].encode().splitlines(keepends=True)
    rows = [lines[-1]]
    if b"," in rows[0]:
        rows += [
            '2,"引用""的"\n'.encode(),
            b'3,"two\r\nlines, and more"\n',
            b'4,"open\n5,next\n',
            b"6,=SUM(1)\n",
            b"-7,+1\n",
        ]
    return rows


def random_content(name: str, random: np.random.Generator) -> bytes:
    """The beginning of a file, then rows that are usual, cut, or made of pieces, some of them invalid."""
    pieces, usual = pieces_of(name), usual_rows(name)
    rows = []
    for kind in random.integers(0, 4, random.integers(0, 40)):
        row = usual[random.integers(len(usual))] if kind else b""
        if kind < 2:
            at = random.integers(len(row) + 1)
            some = b"".join(pieces[index] for index in random.integers(0, len(pieces), random.integers(0, 12)))
            row = row[:at] + some + row[at + random.integers(0, 3) :]
        rows.append(row)
    return BEGINNINGS[name].encode() + b"".join(rows)


def pieces_of(name: str) -> list[bytes]:
    """What unusual rows are made of: a fifth of it is not valid UTF-8."""
    pieces = [piece.encode() for piece in (JSON_PIECES if name.endswith(".jsonl") else PIECES)]
    return [*pieces, *pieces, *INVALID]


def predicted(texts: list[str]) -> Predictions:
    """Labels and probabilities that depend on the texts alone."""
    first = np.array([(hash((len(text), text[:1])) % 10**6 + 0.5) / 10**6 for text in texts], np.float32)
    return Predictions.of(np.stack([first, 1 - first], axis=1).reshape(-1, 2))


Labelled = tuple[bytes, list[str], list[BadRow], list[Position]]


def labelled(
    content: bytes, name: str, spec: OutputSpec = SPEC, *, by_kernels: bool = True, start: Position | None = None
) -> Labelled:
    """The output, the texts, the bad rows and the ends of the chunks; Python finds all rows if not ``by_kernels``."""
    suffix = "." + name.rpartition(".")[2]
    spec = dataclasses.replace(spec, text_column="2" if name.startswith("no header") else "")
    rows: Any = open_lines(io.BytesIO(content), name, suffix, spec.input_columns, spec)
    if not by_kernels:
        rows._scanner = None
    output, texts, bad, ends = b"".join(rows.header()), [], [], []
    for chunk in rows.chunks(start):
        texts.append(list(chunk.texts))
        output += rows.add_labels(chunk, predicted(texts[-1]))
        bad += chunk.bad
        ends.append(chunk.end)
    return output, list(chain.from_iterable(texts)), bad, ends
