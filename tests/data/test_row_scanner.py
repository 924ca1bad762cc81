"""The kernels find the same rows as the readers in Python: same output, same bad rows, same positions."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.data.formats import tables, text_lines
from distill.data.formats.text_lines import LineRows

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "reliability"))

from random_files import BEGINNINGS, SPEC, labelled, pieces_of, usual_rows

MANY = settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
LIMITS = st.fixed_dictionaries(
    {
        "BLOCK": st.sampled_from([1, 7, 64, 2**20]),
        "CHUNK_ROWS": st.sampled_from([1, 3, 2048]),
        "CHUNK_BYTES": st.sampled_from([16, 2**20]),
        "MAX_LINE": st.sampled_from([40, 2**20]),
        "MAX_ROW_LINES": st.sampled_from([2, 64]),
        "MAX_ROW_SIZE": st.sampled_from([30, 2**20]),
    }
)


def contents(name: str) -> st.SearchStrategy[bytes]:
    """The beginning of a file, then rows that are usual, cut, or made of pieces, some of them invalid."""
    of_pieces = st.lists(st.sampled_from(pieces_of(name)), max_size=12).map(b"".join)
    usual = st.sampled_from(usual_rows(name))
    cut = st.tuples(usual, st.integers(0, 20), of_pieces).map(lambda row: row[0][: row[1]] + row[2] + row[0][row[1] :])
    return st.lists(usual | cut | of_pieces, max_size=12).map(lambda rows: BEGINNINGS[name].encode() + b"".join(rows))


@pytest.mark.parametrize("name", BEGINNINGS)
def test_the_kernels_and_python_read_the_same_rows(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @MANY
    @given(contents(name), LIMITS)
    def compare(content: bytes, limits: dict[str, int]) -> None:
        for limit, value in limits.items():
            monkeypatch.setattr(tables if limit.startswith("MAX_ROW") else text_lines, limit, value)
        assert labelled(content, name) == labelled(content, name, by_kernels=False)

    compare()


USUAL = {
    "excel.csv": '2,"引用""的"""\r\n\r\n-1.5,好\r\n,"a\r\nb"\r\n',
    "commas.csv": '3, a"b \n"x",\u3000字\u3000\n=1,好\n  \n\n4,"=1,\n2"',
    "quoted.tsv": '"4"\t"a\tb"\n5\tb',
    "tabs.tsv": '3\ta"b"\tx\n',
    "no header.csv": "甲,第十三条",
    "objects.jsonl": '{"a": [1, -2.5e+3, true, {"text": null}, "\\ud83d"], "text": "\\ud83d\\ude00\\n\\"\\u5b57"} \r\n'
    '{"text":"a"}',
    "texts.txt": " a\tb \n\x00好\n第二\u3000",
    "label last.txt": "a\tb\tc\n好\n好\tb\u3000\n",
    "label first.txt": "a\tb\tc\n好\n",
}


@pytest.mark.parametrize("name", USUAL)
def test_usual_rows_do_not_need_python(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    content = (BEGINNINGS[name] + USUAL[name]).encode()
    expected = labelled(content, name, by_kernels=False)
    assert not expected[2]

    def fail(*_: Any) -> None:
        raise AssertionError("a usual row was declined")

    monkeypatch.setattr(LineRows, "_parsed", fail)
    assert labelled(content, name) == expected


@pytest.mark.parametrize("name", BEGINNINGS)
def test_reading_goes_on_after_every_chunk(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_lines, "CHUNK_ROWS", 2)
    content = BEGINNINGS[name].encode() + b"".join(usual_rows(name))
    output, texts, bad, ends = labelled(content, name)
    header = len(labelled(content, name, start=ends[-1])[0])
    for number, end in enumerate(ends, 1):
        rest = labelled(content, name, start=end)
        assert output.endswith(rest[0][header:]) and rest[3] == ends[number:]
        assert rest[1] == texts[len(texts) - len(rest[1]) :] and rest[2] == bad[len(bad) - len(rest[2]) :]


def test_what_follows_the_probability_is_the_same() -> None:
    everything = dataclasses.replace(SPEC, probabilities=True, top_k=2, reject_below=0.6, reject_label="?")
    rejecting = dataclasses.replace(SPEC, reject_below=0.6, reject_label="?")
    for name in BEGINNINGS:
        content = BEGINNINGS[name].encode() + b"".join(usual_rows(name))
        for spec in (everything, rejecting):
            assert labelled(content, name, spec) == labelled(content, name, spec, by_kernels=False)
