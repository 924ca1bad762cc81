"""Measure processor time and memory of the readers on hostile files: a line of 900 MB, compressed bombs, false sizes.

python benchmarks/reliability/large_files.py --megabytes 900

Every file is written in two sizes (a third, and all of --megabytes) and read by a process of its own: as --mode predict
reads it, and for training where that differs. The peak is what reading added to the memory of a process that read a
small file of the same kind. Writes benchmarks/reliability/large_files.json, and prints it as a table.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from jobs import command_line, machine  # noqa: E402

from distill.data.formats import open_file  # noqa: E402
from distill.data.formats.labelling import OutputSpec, Predictions  # noqa: E402
from distill.data.formats.records import Columns, Row  # noqa: E402
from distill.errors import UserError  # noqa: E402
from distill.storage.encodings import read_text  # noqa: E402
from distill.text.segmentation import Segmenter  # noqa: E402
from distill.text.vector_files import read_table  # noqa: E402

MB = 10**6
SPEC = OutputSpec(("体育", "财经"), True)
MAX_PEAK_MB = 300

Write = Callable[[Path, int], None]  # a file, and about how many bytes it has once it is unpacked


def pieces(before: str, middle: str, after: str = "", encoding: str = "utf-8") -> Write:
    """A file of ``middle`` again and again, between a beginning and an end."""

    def write(path: Path, size: int) -> None:
        block = (middle * (min(size, MB) // len(middle) + 1)).encode(encoding)
        with path.open("wb") as file:
            file.write(before.encode(encoding))
            for _ in range(max(1, size // len(block))):
                file.write(block)
            file.write(after.encode(encoding.removesuffix("-sig")))

    return write


def packed(opener: Callable[[Path], io.BufferedIOBase], block: bytes, before: bytes = b"") -> Write:
    """A compressed file of one block again and again."""

    def write(path: Path, size: int) -> None:
        with opener(path) as file:
            file.write(before)
            for start in range(0, size, len(block)):
                file.write(block[: size - start])

    return write


def zstd(path: Path) -> io.BufferedIOBase:
    """A writer of zstd."""
    import pyarrow

    return pyarrow.CompressedOutputStream(str(path), "zstd")


def members(path: Path, size: int) -> None:
    """Gzip files of 100 kB one after another."""
    member = gzip.compress(b"a" * 10**5)
    with path.open("wb") as file:
        for _ in range(max(1, size // 10**5)):
            file.write(member)


def repeated_string(path: Path, size: int) -> None:
    """Parquet whose rows are one string of 1 MB, which the file holds once."""
    import pyarrow as pa
    from pyarrow import parquet

    array = pa.DictionaryArray.from_arrays(np.zeros(max(1, size // MB), np.int32), pa.array(["好" * (MB // 3)]))
    parquet.write_table(pa.table({"text": array}), path)


def one_page(path: Path, size: int) -> None:
    """Parquet with one page."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"text": pa.array(["a" * min(size, 2**31 - 10**6)])})
    parquet.write_table(table, path, use_dictionary=False, compression="zstd", data_page_size=2**30)


def sheet(path: Path, blocks: Iterator[bytes], strings: bytes = b"") -> None:
    """An Excel file whose sheet has these rows, in XML."""
    import openpyxl

    small = io.BytesIO()
    book = openpyxl.Workbook()
    book.active.append(["text"])
    book.save(small)
    with zipfile.ZipFile(small) as source, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            if name == "xl/_rels/workbook.xml.rels":
                target.writestr(name, source.read(name).replace(b"</Relationships>", SHARED))
            elif name != "xl/worksheets/sheet1.xml":
                target.writestr(name, source.read(name))
        target.writestr("xl/sharedStrings.xml", b"<sst><si><t>text</t></si><si><t>%b</t></si></sst>" % strings)
        with target.open("xl/worksheets/sheet1.xml", "w", force_zip64=True) as file:
            file.write(b'<worksheet><sheetData><row r="1"><c r="A1" t="str"><v>text</v></c></row>')
            for block in blocks:
                file.write(block)
            file.write(b"</sheetData></worksheet>")


def far_cell(path: Path, _: int) -> None:
    """Two cells in the opposite corners of a sheet: 17 thousand million cells."""
    sheet(path, iter([b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>']))


def blank_sheet(path: Path, size: int) -> None:
    """A sheet of spaces."""
    sheet(path, repeat(b" " * MB, max(1, size // MB)))


def cells_of_one_string(path: Path, size: int) -> None:
    """A string of 30,000 characters in as many cells as give the size."""
    cells = range(2, 2 + max(1, size // 30_000))
    sheet(path, (b'<row r="%d"><c r="A%d" t="s"><v>1</v></c></row>' % (n, n) for n in cells), b"a" * 30_000)


def as_predict(path: Path) -> str:
    """Read and label in chunks."""
    rows = bad = 0
    with open_file(path, SPEC.input_columns, SPEC) as file:
        for chunk in file.chunks(None):
            labels = Predictions.of(np.tile(np.array([[0.25, 0.75]], "f4"), (len(chunk.texts), 1)))
            file.add_labels(chunk, labels)
            rows, bad = rows + len(chunk.texts), bad + len(chunk.bad)
    return f"{rows:,} rows, {bad:,} bad"


def as_training(path: Path) -> str:
    """Read row by row."""
    rows = bad = 0
    with open_file(path, Columns(is_labelled=False)) as file:
        for row in file.rows():
            rows, bad = rows + isinstance(row, Row), bad + (not isinstance(row, Row))
    return f"{rows:,} rows, {bad:,} bad"


def as_vectors(path: Path) -> str:
    """Read word vectors."""
    return f"{read_table(path, {b'a'}, 1 << 22).total:,} rows"


def as_classes(path: Path) -> str:
    """Read the names of classes."""
    return f"{len(read_text(path)):,} characters"


def as_dictionary(path: Path) -> str:
    """Read a user dictionary."""
    return f"{len(Segmenter(path).identity)} entries"


READERS = {read.__name__: read for read in (as_predict, as_training, as_vectors, as_classes, as_dictionary)}
SHARED = (
    b'<Relationship Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/sharedStrings" '
    b'Target="sharedStrings.xml" Id="rId9"/></Relationships>'
)
RECORD, QUOTED = '{"text": "好好学习", "label": "甲"}', '"好好学习","甲"\n'


def gz(path: Path) -> io.BufferedIOBase:
    """A writer of gzip."""
    return gzip.open(path, "wb", 1)


def bz(path: Path) -> io.BufferedIOBase:
    """A writer of bzip2."""
    return bz2.open(path, "wb", 1)


CASES: dict[str, tuple[str, Write, Callable[[Path], str]]] = {
    "JSON: one string": ("a.json", pieces('{"text": "', "好", '"}'), as_predict),
    "JSON: an array of small records on one line": (
        "a.json",
        pieces(f"[{RECORD}", f", {RECORD}", "]"),
        as_predict,
    ),
    "JSON: the same within an object": ("a.json", pieces(f'{{"data": [{RECORD}', f", {RECORD}", "]}"), as_training),
    "JSON: objects one after another": ("a.json", pieces("", '{"text":\n"好好学习"}'), as_predict),
    "JSON: one large record among small ones": (
        "a.json",
        pieces(f'[{RECORD}, {{"text": "', "\\n好", f'"}}, {RECORD}]'),
        as_predict,
    ),
    "JSON: a record of small arrays": ("a.json", pieces(f'[{RECORD}, {{"text": [[]', ",[]", "]}]"), as_predict),
    "JSON: nested arrays": ("a.json", pieces("", "["), as_predict),
    "JSON: nested objects": ("a.json", pieces("", '{"a":'), as_predict),
    "JSON: columns": ("a.json", pieces('{"text": {"0": "好"', ', "1": "好"', "}}"), as_predict),
    "JSON: white space": ("a.json", pieces("[", " ", "]"), as_predict),
    "JSON lines: one line": ("a.jsonl", pieces(f'{RECORD}\n{{"text": "', "好", f'"}}\n{RECORD}\n'), as_predict),
    "CSV: one line": ("a.csv", pieces("text,label\n", "好"), as_predict),
    "CSV: one line of cells": ("a.csv", pieces("text,label\n", "好,"), as_training),
    "CSV: one quoted cell": ("a.csv", pieces('text,label\n"', "好", '",甲\n'), as_predict),
    "CSV: one line of quotes": ("a.csv", pieces("text,label\n", '""'), as_predict),
    "CSV: a quote opens in every line": ("a.csv", pieces("text,label\n", '"好,\n'), as_training),
    "CSV: sound rows": ("a.csv", pieces("text,label\n", QUOTED), as_predict),
    "TSV: one line": ("a.tsv", pieces("text\tlabel\n", "好\t"), as_predict),
    "text: one line": ("a.txt", pieces("", "好"), as_predict),
    "text: one line of ASCII": ("a.txt", pieces("", "a"), as_predict),
    "text: one line of UTF-16": ("a.txt", pieces("\ufeff", "好", "\n", "utf-16-le"), as_predict),
    "text: NUL bytes": ("a.txt", pieces("", "\0"), as_predict),
    "gzip: zeros": ("a.csv.gz", packed(gz, bytes(MB)), as_predict),
    "gzip: one line": ("a.json.gz", packed(gz, b"a" * MB, b'{"text": "'), as_predict),
    "gzip: members one after another": ("a.txt.gz", members, as_predict),
    "bzip2: zeros": ("a.csv.bz2", packed(bz, bytes(MB)), as_predict),
    "zstd: zeros": ("a.csv.zst", packed(zstd, bytes(MB)), as_predict),
    "vectors: one line, gzip": ("v.txt.gz", packed(gz, b"a" * MB, b"a 1.0 2.0\n"), as_vectors),
    "vectors: one line of numbers, gzip": ("v.txt.gz", packed(gz, b"1 " * (MB // 2), b"9 3\na 1 2 3\n"), as_vectors),
    "vectors: a first line of 10^9 x 10^9": (
        "v.txt.gz",
        packed(gz, b"a " * (MB // 2), b"1000000000 1000000000\n"),
        as_vectors,
    ),
    "vectors: binary without a word": (
        "v.bin",
        pieces("1000000000 300\na " + "\1" * 1200, "\1"),
        as_vectors,
    ),
    "Parquet: one string of 1 MB in all rows": ("a.parquet", repeated_string, as_predict),
    "Parquet: the same for training": ("a.parquet", repeated_string, as_training),
    "Parquet: one page": ("a.parquet", one_page, as_predict),
    "Excel: two far cells": ("a.xlsx", far_cell, as_predict),
    "Excel: a sheet of spaces": ("a.xlsx", blank_sheet, as_predict),
    "Excel: one string in all cells": ("a.xlsx", cells_of_one_string, as_predict),
    "class.txt: one line": ("class.txt", pieces("", "a"), as_classes),
    "class.txt: lines": ("class.txt", pieces("", "a\n"), as_classes),
    "user dictionary: one line": ("words.txt", pieces("", "a"), as_dictionary),
    "user dictionary: lines": ("words.txt", pieces("", "a\n"), as_dictionary),
}


MANY_ROWS = (  # which take a few microseconds each: a thirtieth of the size is measured
    *("JSON: an array of small records on one line", "JSON: the same within an object"),
    *("JSON: objects one after another", "CSV: a quote opens in every line", "CSV: sound rows"),
)


def peak_mb() -> float:
    """The largest memory of this process, and of a process that it started."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return (int(status["VmHWM"].split()[0]) + children) / 1000


def cpu_seconds() -> float:
    """The processor time of this process and of those that it started; what else runs on the machine does not count."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def read(reader: str, path: Path) -> dict[str, object]:
    """Read a file in this process."""
    start = cpu_seconds()
    try:
        outcome = READERS[reader](path)
    except UserError as error:
        outcome = f"refused: {error.what:.100}"
    return {"seconds": round(cpu_seconds() - start, 2), "peak_mb": peak_mb(), "outcome": outcome}


def read_in_process(reader: str, path: Path) -> dict[str, object]:
    """Read a file in a process of its own."""
    command = [sys.executable, __file__, "--reader", reader, "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (this program)
    if done.returncode:
        return {"seconds": 0.0, "peak_mb": 0.0, "outcome": f"exit {done.returncode}: {done.stderr[-300:]}"}
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str, folder: Path, sizes: list[int]) -> dict[str, object]:
    """The two sizes of a case, above a small file of the same kind."""
    file_name, write, reader = CASES[name]
    path, results = folder / file_name, []
    if name in MANY_ROWS:
        sizes = [size // 30 for size in sizes]
    for size in (1000, *sizes):
        write(path, size)
        results.append({**read_in_process(reader.__name__, path), "file_mb": round(path.stat().st_size / MB, 2)})
        path.unlink()
    small, third, whole = results
    return {
        "case": name,
        "reader": reader.__name__,
        "unpacked_mb": sizes[-1] // MB,
        "file_mb": whole["file_mb"],
        "seconds_third": third["seconds"],
        "seconds": whole["seconds"],
        "added_mb_third": round(third["peak_mb"] - small["peak_mb"]),
        "added_mb": round(whole["peak_mb"] - small["peak_mb"]),
        "outcome": whole["outcome"],
    }


def main() -> None:
    """Measure all cases, or read one file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=900, help="of every file once it is unpacked")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument("--reader", choices=READERS, help="read --file in this process, and print what it took")
    parser.add_argument("--file", type=Path)
    options = parser.parse_args()
    if options.reader:
        print(json.dumps(read(options.reader, options.file), ensure_ascii=False))
        return
    size, results = options.megabytes * MB, []
    with tempfile.TemporaryDirectory() as folder:
        for name in (name for name in CASES if options.only in name):
            results.append(measure(name, Path(folder), [size // 3, size]))
            print("| " + " | ".join(str(value) for value in results[-1].values()) + " |", flush=True)
    if not options.only:
        record = {
            "command": command_line("large_files.py"),
            "machine": machine(),
            "cases": len(results),
            "above_limit": [result["case"] for result in results if result["added_mb"] > MAX_PEAK_MB],
            "results": results,
        }
        (HERE / "large_files.json").write_text(
            json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
