"""Check a wheel in a new virtual environment: what it contains, and that a bundle predicts soon without a compiler.

python tests/check_wheel.py dist/*_x86_64.whl
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUNDLE = ROOT / "tests" / "fixtures" / "bundle"
EXPECTED = json.loads((ROOT / "tests" / "fixtures" / "expected.json").read_text(encoding="utf-8"))
SECONDS, STARTS = 0.5, 5
PREDICT = """
import json, sys
from distill.runtime import load, native
bundle = load(sys.argv[1])
texts = json.loads(sys.argv[2])
print(json.dumps([bundle.predict(texts), bundle.predict_proba(texts).tolist(), native.library()._name]))
"""


def contents(wheel: Path) -> list[str]:
    """The files of a wheel, which must be those of the package and libraries for every family of its processor.

    Raises:
        AssertionError: the wheel lacks a file, or its tag is that of another machine.
    """
    name = re.fullmatch(r"distill_zh-[\d.]+-py3-none-manylinux_2_(\d+)_(x86_64|aarch64)\.whl", wheel.name)
    assert name, f"{wheel.name}: this is not the tag of a wheel with compiled kernels"
    with zipfile.ZipFile(wheel) as archive:
        files = archive.namelist()
        (metadata,) = (archive.read(path).decode() for path in files if path.endswith(".dist-info/WHEEL"))
    assert "Root-Is-Purelib: false" in metadata, metadata
    package = [path for path in (ROOT / "distill").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    missing = {str(path.relative_to(ROOT)) for path in package} - set(files)
    assert not missing, f"not in the wheel: {missing}"
    families = {"x86_64": ["x86-64-v3", "x86-64-v4-vnni"], "aarch64": ["armv8-a"]}[name[2]]
    libraries = [path for path in files if path.startswith("distill/runtime/compiled/")]
    assert sorted(re.split("-", Path(path).stem, maxsplit=2)[2] for path in libraries) == families
    return files


def install(wheel: Path, folder: Path) -> Path:
    """Install a wheel in a new virtual environment; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", wheel], check=True)
    return python


def predict(
    python: list[str], folder: Path, bundle: Path = BUNDLE, **variables: str
) -> tuple[list[str], list[list[float]], str, float]:
    """Labels, probabilities, the library that computed them, and the seconds since the process was started.

    The process has no compiler, an empty cache, and its working folder is not the repository.
    """
    environment = {"PATH": "", "CC": "nosuch", "HOME": str(folder), "DISTILL_CACHE": str(folder / "cache")}
    command = [*python, "-c", PREDICT, str(bundle), json.dumps(EXPECTED["texts"])]
    started = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, env=environment | variables, stdout=subprocess.PIPE) as process:
        line = process.stdout.readline()  # type: ignore[union-attr]
        seconds = time.perf_counter() - started
    labels, probabilities, library = json.loads(line)
    return labels, probabilities, library, seconds


def check(wheel: Path, folder: Path) -> None:
    """Check a wheel for this machine.

    Raises:
        AssertionError: says what is wrong with it.
    """
    print(f"{wheel.name}: {len(contents(wheel))} files, {wheel.stat().st_size / 1e6:.2f} MB")
    python = install(wheel, folder / "venv")
    runs = [predict([str(python)], folder) for _ in range(1 + STARTS)]
    for labels, probabilities, library, _ in runs:
        assert labels == EXPECTED["bundle"], labels
        difference = max(
            abs(ours - theirs)
            for row, expected in zip(probabilities, EXPECTED["bundle_probabilities"], strict=True)
            for ours, theirs in zip(row, expected, strict=True)
        )
        assert difference < 1e-3, difference
        assert f"{folder}/venv/" in library, library
    assert not (folder / "cache").exists()
    first, *others = [run[3] for run in runs]
    seconds = min(others)  # other work on the machine only adds time
    print(f"{Path(runs[0][2]).name}: labels as expected, probabilities within {difference:.1e}")
    print(f"from the start of the process to the labels: first {first:.2f} s, then at best {seconds:.2f} s")
    assert seconds < SECONDS, f"more than {SECONDS} s"
    script = subprocess.run([python.parent / "distill", "--version"], capture_output=True, text=True, check=True)
    print(script.stdout, end="")


def main() -> None:
    """Check the wheel that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    wheel = parser.parse_args().wheel.resolve()
    with tempfile.TemporaryDirectory() as folder:
        try:
            check(wheel, Path(folder))
        except AssertionError as error:
            sys.exit(f"{wheel.name}: {error}")


if __name__ == "__main__":
    main()
