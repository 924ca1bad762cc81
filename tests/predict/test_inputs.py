"""--mode predict reads the same files as training: compressed ones, other encodings, documents, spreadsheets."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import os
from pathlib import Path

import pytest
from conftest import titles

from distill.cli import main
from distill.progress import log
from distill.runtime import Runtime

TITLES = [text for text, _ in titles(0, 12)]
TABLE = "id,title\n" + "".join(f"{number},{text}\n" for number, text in enumerate(TITLES))
DANGEROUS = ['=HYPERLINK("x")', "+1+1", "-2+3", "@SUM(A1)", "＝1+1", " =1"]
HARMLESS = ["-5", "+3.5", "1e-3", "-10%", "a=b", "股票-5"]


def predict(bundle: Path, source: Path, output: Path, *flags: object) -> int:
    return main(
        [
            "--mode",
            "predict",
            "--bundle",
            f"{bundle}",
            "--input",
            f"{source}",
            "--output",
            f"{output}",
            *map(str, flags),
        ]
    )


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text("utf-8-sig"))))


CONTENTS: dict[str, bytes] = {
    "a.csv.gz": gzip.compress(TABLE.encode()),
    "a.csv.bz2": bz2.compress(TABLE.encode()),
    "a.csv": TABLE.encode("utf-16"),
    "gb.csv": TABLE.encode("gb18030"),
    "mac.csv": TABLE.replace("\n", "\r").encode(),
    "semicolons.csv": TABLE.replace(",", ";").encode(),
}


@pytest.mark.parametrize("name", CONTENTS)
def test_encoded_and_compressed_tables(name: str, bundle: Path, tmp_path: Path) -> None:
    source, folder = tmp_path / name, tmp_path / "out"
    source.write_bytes(CONTENTS[name])
    assert predict(bundle, source, folder / "x.csv") == 0
    content = (folder / "x.csv").read_text("utf-8-sig").replace(";", ",")
    rows = list(csv.DictReader(io.StringIO(content)))
    assert [row["title"] for row in rows] == TITLES
    assert [row["predicted"] for row in rows] == Runtime(bundle).predict(TITLES)


def test_a_folder_of_compressed_files_and_spreadsheets(bundle: Path, tmp_path: Path) -> None:
    """Outputs are plain text; a spreadsheet becomes a CSV file that spreadsheets open."""
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in (
        ["编号", "标题", None],
        *([number, text, None] for number, text in enumerate(TITLES)),
        [None, None, None],
    ):
        book.active.append(row)
    folder = tmp_path / "in"
    folder.mkdir()
    book.save(folder / "b.xlsx")
    (folder / "a.csv.gz").write_bytes(CONTENTS["a.csv.gz"])
    assert predict(bundle, folder, tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.csv", "b.csv"]
    assert (tmp_path / "out" / "b.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    rows = table(tmp_path / "out" / "b.csv")
    assert [(row["编号"], row["标题"]) for row in rows] == [(str(n), text) for n, text in enumerate(TITLES)]
    assert [row["predicted"] for row in rows] == Runtime(bundle).predict(TITLES)
    assert predict(bundle, folder / "b.xlsx", tmp_path / "c.xlsx") == 2
    assert predict(bundle, folder / "a.csv.gz", tmp_path / "c.csv.gz") == 2


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_document_becomes_json_lines(indent: int | None, bundle: Path, tmp_path: Path) -> None:
    records = [{"id": number, "title": text} for number, text in enumerate(TITLES)]
    (tmp_path / "in.json").write_text(json.dumps({"data": [*records, {"title": None}]}, indent=indent), "utf-8")
    assert predict(bundle, tmp_path / "in.json", tmp_path / "out.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [{"id": row["id"], "title": row["title"]} for row in rows] == records
    assert [row["predicted"] for row in rows] == Runtime(bundle).predict(TITLES)
    (bad,) = (tmp_path / "out.jsonl.bad.jsonl").read_text("utf-8").splitlines()
    assert json.loads(bad)["line"] == len(TITLES) + 1


@pytest.mark.parametrize("name", ["in.csv", "in.tsv", "in.txt", "in.jsonl"])
def test_a_byte_order_mark_is_kept(name: str, bundle: Path, tmp_path: Path) -> None:
    content = {
        ".csv": TABLE,
        ".tsv": TABLE.replace(",", "\t"),
        ".txt": "\n".join(TITLES),
        ".jsonl": "".join(f'{{"text": "{text}"}}\n' for text in TITLES),
    }[Path(name).suffix]
    for mark in ("", "\ufeff"):
        (tmp_path / name).write_text(mark + content, "utf-8")
        assert predict(bundle, tmp_path / name, tmp_path / "out" / name) == 0
        written = (tmp_path / "out" / name).read_text("utf-8")
        assert written.startswith(mark) and written.count("\ufeff") == len(mark)


def test_no_cell_of_a_table_for_spreadsheets_is_a_formula(bundle: Path, tmp_path: Path) -> None:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([["id", "text"], *([text, f"{text}"] for text in (*DANGEROUS, *HARMLESS))])
    for mark, flags, is_escaped in (("\ufeff", [], True), ("\ufeff", ["--no-escape_formulas"], False), ("", [], False)):
        (tmp_path / "in.csv").write_text(mark + buffer.getvalue(), "utf-8", newline="")
        assert predict(bundle, tmp_path / "in.csv", tmp_path / "out.csv", *flags) == 0
        expected = [*(f"'{text}" if is_escaped else text for text in DANGEROUS), *HARMLESS]
        rows = table(tmp_path / "out.csv")
        assert [row["id"] for row in rows] == [row["text"] for row in rows] == expected
        assert [row["predicted"] for row in rows] == Runtime(bundle).predict([*DANGEROUS, *HARMLESS])


def test_only_the_formula_is_changed_where_quotes_are_characters(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text('text\tnote\n国足"赢"了\t=1+1\n"好看\t-5\n', "utf-8-sig")
    assert predict(bundle, tmp_path / "in.tsv", tmp_path / "out.tsv") == 0
    _, first, second = (tmp_path / "out.tsv").read_text("utf-8-sig").splitlines()
    assert first.startswith('国足"赢"了\t\'=1+1\t') and second.startswith('"好看\t-5\t')


@pytest.mark.parametrize(("flags", "written"), [([], "text,'=1+1"), (["--no-escape_formulas"], "text,=1+1")])
def test_no_name_of_a_column_for_spreadsheets_is_a_formula(
    flags: list[str], written: str, bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "in.csv").write_text("text,=1+1\n球队赢了,1\n", "utf-8-sig")
    assert predict(bundle, tmp_path / "in.csv", tmp_path / "out.csv", *flags) == 0
    assert (tmp_path / "out.csv").read_text("utf-8-sig").startswith(f"{written},predicted,probability\n")


def test_parquet_of_bytes_and_damaged_pages(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    encoded = [text.encode("gb18030" if number % 2 else "utf-8") for number, text in enumerate(TITLES)]
    parquet.write_table(pyarrow.table({"text": [*encoded, b"\xff\xff"]}), tmp_path / "in.parquet")
    assert predict(bundle, tmp_path / "in.parquet", tmp_path / "out.parquet") == 0
    predicted = parquet.read_table(tmp_path / "out.parquet").column("predicted").to_pylist()
    assert predicted == [*Runtime(bundle).predict(TITLES), None]
    content = bytearray((tmp_path / "in.parquet").read_bytes())
    content[20:120] = b"\xff" * 100
    (tmp_path / "in.parquet").write_bytes(content)
    capsys.readouterr()
    assert predict(bundle, tmp_path / "in.parquet", tmp_path / "damaged.parquet") == 2
    assert "not a Parquet file, or a damaged one" in capsys.readouterr().err
    assert not (tmp_path / "damaged.parquet").exists()


def test_files_with_names_that_are_not_utf_8(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode("新闻.csv".encode("gb18030"))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(f"{TABLE}one cell\n", "utf-8")
    monkeypatch.setattr(log, "propagate", False)  # a message that pytest captures must be UTF-8 for xdist
    assert predict(bundle, tmp_path / "in", tmp_path / "out") == 0
    assert len(table(tmp_path / "out" / name)) == len(TITLES)
    (bad,) = map(json.loads, next((tmp_path / "out").glob("*.bad.jsonl")).read_text("utf-8").splitlines())
    assert Path(bad["file"]).name == name
