"""--mode predict: the rows of files, folders, patterns and pipes stay as they were; labels are appended."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import titles

from distill.cli import main
from distill.config import PredictSettings
from distill.data.formats import parquet, text_lines
from distill.errors import UserError
from distill.predict import checkpoint
from distill.predict.plan import plan_jobs
from distill.runtime import Runtime

ROOT = Path(__file__).parents[2]
TITLES = [text for text, _ in titles(0, 120)]
SUFFIXES = ("txt", "csv", "tsv", "jsonl", "parquet")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 16 rows and parts of 40, so that every file has several."""
    monkeypatch.setattr(text_lines, "CHUNK_ROWS", 16)
    monkeypatch.setattr(parquet, "CHUNK_ROWS", 16)
    monkeypatch.setattr(checkpoint, "PART_ROWS", 40)


def predict(bundle: Path, *flags: object) -> int:
    return main(["--mode", "predict", "--bundle", str(bundle), "--threads", "2", *map(str, flags)])


def write(path: Path, texts: list[str]) -> Path:
    """Write texts, with a number and a column ``label``, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"id": number, "title": text, "label": None} for number, text in enumerate(texts)]
    if path.suffix == ".parquet":
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path, row_group_size=50)
    elif path.suffix == ".txt":
        path.write_text("".join(f"{text}\t{number}\n" for number, text in enumerate(texts)), encoding="utf-8")
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="," if path.suffix == ".csv" else "\t")
            table.writeheader()
            table.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of an output."""
    if path.suffix == ".parquet":
        from pyarrow import parquet

        return list(parquet.read_table(path).to_pylist())
    content = path.read_text("utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in content.split("\n")[:-1]]
    delimiter = "," if path.suffix == ".csv" else "\t"
    header = "title\tid\tpredicted\tprobability\n" if path.suffix == ".txt" else ""
    return list(csv.DictReader(io.StringIO(header + content), delimiter=delimiter))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_kept_and_labelled(suffix: str, bundle: Path, tmp_path: Path) -> None:
    source, output = write(tmp_path / f"in.{suffix}", TITLES), tmp_path / "new" / f"out.{suffix}"
    assert predict(bundle, "--input", source, "--output", output) == 0
    runtime, rows = Runtime(bundle), read(output)
    assert [row["title"] for row in rows] == TITLES
    assert [int(row["id"]) for row in rows] == list(range(len(TITLES)))
    assert [row["predicted"] for row in rows] == runtime.predict(TITLES)
    expected = runtime.predict_proba(TITLES).max(axis=1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], expected, atol=1e-4)
    assert sorted(path.name for path in output.parent.iterdir()) == [f"out.{suffix}"]


@pytest.mark.parametrize("suffix", SUFFIXES[1:])
def test_all_probabilities(suffix: str, bundle: Path, tmp_path: Path) -> None:
    source, output = write(tmp_path / f"in.{suffix}", TITLES), tmp_path / f"out.{suffix}"
    assert predict(bundle, "--input", source, "--output", output, "--probabilities") == 0
    runtime = Runtime(bundle)
    for row, expected in zip(read(output), runtime.predict_proba(TITLES), strict=True):
        of = (
            row["probabilities"]
            if suffix == "jsonl"
            else {k[12:]: v for k, v in row.items() if k[:12] == "probability_"}
        )
        assert list(of) == list(runtime.labels)
        np.testing.assert_allclose([float(value) for value in of.values()], expected, atol=1e-4)


@pytest.mark.usefixtures("small")
def test_parquet_keeps_rows_without_text(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts: list[Any] = [None, *TITLES, " "]
    source, output = write(tmp_path / "in.parquet", texts), tmp_path / "out.parquet"
    assert predict(bundle, "--input", source, "--output", output) == 0
    rows = read(output)
    assert [row["title"] for row in rows] == texts
    assert [index for index, row in enumerate(rows) if row["predicted"] is None] == [0, len(texts) - 1]
    assert rows[0]["probability"] is None and rows[1]["probability"] > 0
    assert [row["line"] for row in read(tmp_path / "out.parquet.bad.jsonl")] == [1, len(texts)]
    assert f"{len(texts)} rows, 2 bad rows" in capsys.readouterr().err


def test_folders_and_patterns_keep_their_structure(bundle: Path, tmp_path: Path) -> None:
    for name in ("a.csv", "deep/er/b.csv", "deep/c.jsonl", ".hidden/d.csv", "old.csv.bad.jsonl", "notes.md"):
        write(tmp_path / "in" / name, TITLES[:3]) if name != "notes.md" else (tmp_path / "in" / name).write_text("#")
    assert predict(bundle, "--input", tmp_path / "in", "--output", tmp_path / "out") == 0
    assert predict(bundle, "--input", tmp_path / "in" / "**" / "*.csv", "--output", tmp_path / "some") == 0

    def files(folder: str) -> list[str]:
        root = tmp_path / folder
        return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())

    assert files("out") == ["a.csv", "deep/c.jsonl", "deep/er/b.csv"]
    assert files("some") == ["a.csv", "deep/er/b.csv"]
    assert len(read(tmp_path / "out" / "deep" / "er" / "b.csv")) == 3


@pytest.mark.usefixtures("small")
def test_standard_input_and_output(
    bundle: Path, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write(tmp_path / "in.jsonl", TITLES)
    with source.open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    assert predict(bundle, "--input", source, "--output", tmp_path / "out.jsonl") == 0
    capsysbinary.readouterr()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(source.read_bytes())))
    assert predict(bundle, "--input", "-", "--input_format", "jsonl", "--output", "-") == 0
    output = capsysbinary.readouterr()
    assert output.out == (tmp_path / "out.jsonl").read_bytes()
    assert b'"file": "standard input", "line": 121' in output.err and b"120 rows, 1 bad row," in output.err
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(source.read_bytes())))
    assert predict(bundle, "--input", "-", "--input_format", "jsonl", "--output", tmp_path / "piped.jsonl") == 0
    assert (tmp_path / "piped.jsonl").read_bytes() == (tmp_path / "out.jsonl").read_bytes()


@pytest.mark.usefixtures("small")
def test_bad_rows_are_written_to_a_separate_file(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("".join(["text\n", *(f"{text}\n" for text in TITLES[:50]), "a,b\n", "好\n"]), encoding="utf-8")
    assert predict(bundle, "--input", source, "--output", output) == 0
    assert len(read(output)) == 51
    bad = read(tmp_path / "out.csv.bad.jsonl")
    why = "2 cells where the header has 1; put double quotes around cells that contain ','"
    assert bad == [{"file": str(source), "line": 52, "why": why, "raw": "a,b"}]
    log = capsys.readouterr().err
    assert "51 rows, 1 bad row, " in log and "out.csv.bad.jsonl" in log
    output.unlink()
    assert predict(bundle, "--input", source, "--output", output, "--strict") == 2
    assert f"{source}:52: {why}" in capsys.readouterr().err and not output.exists()
    source.write_text("text\n好\n", encoding="utf-8")
    assert predict(bundle, "--input", source, "--output", output) == 0
    assert not (tmp_path / "out.csv.bad.jsonl").exists()


def test_numpy_and_tqdm_are_enough(bundle: Path, tmp_path: Path) -> None:
    source, output = write(tmp_path / "in.csv", TITLES), tmp_path / "out.csv"
    blocked = [
        "torch",
        "pandas",
        "pyarrow",
        "scipy",
        "sklearn",
        "jieba",
        "transformers",
        "safetensors",
        "gensim",
        "ray",
    ]
    flags = ["--mode", "predict", "--bundle", bundle, "--input", source, "--output", output]
    code = f"import sys; sys.modules.update(dict.fromkeys({blocked})); from distill.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read(output)) == len(TITLES)
    flags[-3], flags[-1] = write(tmp_path / "in.parquet", TITLES), tmp_path / "out.parquet"
    done = subprocess.run([sys.executable, "-c", code, *flags], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "Parquet needs the package pyarrow -> pip install pyarrow" in done.stderr


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    """For reading, writing and buffering; the student's memory does not depend on the number of rows."""
    code = """if True:
        import sys
        import numpy as np
        from distill.predict import local, plan, sources

        class Stub:
            labels = ("a", "b")
            def __init__(self, folder): ...
            def predict_proba(self, texts): return np.full((len(texts), 2), 0.5, np.float32)

        sources.Runtime, sources.fingerprint_file = Stub, str
        from distill.config import PredictSettings, Settings
        from pathlib import Path
        source, output = map(Path, sys.argv[1:])
        labeller = local.Labeller(Path(), Settings())
        labeller.to_file(plan.FileJob(source, output, source.suffix), output)
        print(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("/proc is needed to measure the memory")
    used = []
    for count in (200, 1600):
        source = write(tmp_path / f"{count}.csv", TITLES * count)
        command = [sys.executable, "-c", code, str(source), str(tmp_path / f"out{count}.csv")]
        used.append(int(subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout) / 1024)
    assert used[1] - used[0] < 10, used  # MB; the larger file has 9 MB, its rows in memory 60


def test_a_missing_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--mode", "predict", "--run", str(tmp_path), "--input", "a.txt", "--output", "b.txt"]) == 2
    message = capsys.readouterr().err
    assert "there is no bundle here -> python distill.py --mode export, or --bundle FOLDER" in message


REFUSED = {
    "nothing to read": ([], "b.txt", "nothing to label"),
    "nothing to write": (["a.txt"], "", "no output is named"),
    "a pipe among files": (["-", "a.txt"], "out", "standard input cannot be combined with files"),
    "no such file": (["none.csv"], "b.csv", "no such file, or no .json"),
    "an unknown kind": (["a.md"], "b.md", "unknown kind of file '.md'"),
    "another kind": (["a.csv"], "b.jsonl", "the format of the input, .csv, but its name ends with .jsonl"),
    "the input itself": (["a.csv"], "a.csv", "this input would be overwritten"),
    "its own folder": (["a.csv"], ".", "this input would be overwritten"),
    "bad rows over an input": (["a.csv.bad.jsonl", "a.csv"], "out/..", "this input would be overwritten"),
    "files into a file": (["a.csv", "a.txt"], "b.csv", "several files need a folder"),
    "files into a pipe": (["a.csv", "a.txt"], "-", "several files need a folder"),
    "one name twice": (["a.csv", "in/a.csv"], "out", "two inputs would be written into one file: a.csv and in/a.csv"),
    "among the inputs": (["in"], "in/out", "would be inside an input folder"),
    "a pipe into a folder": (["-"], "in", "needs a file name"),
    "a device": (["a.txt"], "/dev/null", "/dev/null: this is not a file that can be replaced"),
    "a stream": (["a.txt"], "/dev/stdout", "/dev/stdout: this is not a file that can be replaced"),
    "a named pipe": (["a.txt"], "pipe.txt", "pipe.txt: this is not a file that can be replaced"),
    "a link to a device": (["a.txt"], "null.txt", "null.txt: this is not a file that can be replaced"),
    "bad rows into a folder": (["a.txt"], "c.txt", "c.txt.bad.jsonl: this is not a file that can be replaced"),
    "a folder in the place of a file": (["a.txt", "a.csv"], "d", "a.txt: this is not a file that can be replaced"),
    "Parquet into a pipe": (["a.parquet"], "-", ".parquet files cannot be written to standard output"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_inputs_and_outputs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("in", "out", "c.txt.bad.jsonl", "d/a.txt"):
        Path(folder).mkdir(parents=True)
    os.mkfifo("pipe.txt")
    Path("null.txt").symlink_to("/dev/null")
    for file in ("a.txt", "a.csv", "a.md", "a.parquet", "a.csv.bad.jsonl", "in/a.csv"):
        Path(file).write_text("text\na\n")
    inputs, output, why = REFUSED[name]
    with pytest.raises(UserError) as error:
        plan_jobs(PredictSettings(input=tuple(inputs), output=output))
    assert why in str(error.value) and error.value.hint


def test_a_file_that_is_not_parquet(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in.parquet").write_text("text\na\n")
    assert predict(bundle, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out.parquet") == 2
    assert "not a Parquet file" in capsys.readouterr().err
