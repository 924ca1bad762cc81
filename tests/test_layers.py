"""Rooms import from strictly lower lines only, and heavy libraries come in by one door each."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "distill"
LINES = (  # the highest first, as in docs/architecture.md
    ("cli",),
    ("stages", "service"),
    ("onnx_export", "jobs"),
    ("classifiers", "masked_language", "report", "bert_base", "tracking", "model_card", "hub"),
    ("training", "export", "plan"),
    ("regularisation",),
    ("teacher", "students", "losses", "optimizer", "transfer", "augment", "floor", "fast_text", "embeddings"),
    ("pretrained", "data", "ngrams", "lexicon"),
    ("words", "batches", "metrics", "word_vectors"),
    ("runs",),
    ("config", "runtime", "stopwatch", "processes"),
    ("errors", "progress"),
)
DOORS = {
    "jieba": {"words"},
    "gensim": {"embeddings"},
    "transformers": {"teacher", "bert_base"},
    "onnx": {"onnx_export"},
    "onnxruntime": {"onnx_export"},
    "fasttext": {"fast_text"},
    "snownlp": {"data"},
    "optuna": {"stages"},
    "ray": {"jobs"},
    "fastapi": {"service"},
    "uvicorn": {"service"},
    "prometheus_client": {"service"},
    "huggingface_hub": {"hub"},
    "shtab": {"cli"},
    "jinja2": {"report", "model_card"},
}
WITHOUT_TORCH = {
    "data",
    "words",
    "metrics",
    "report",
    "config",
    "errors",
    "cli",
    "embeddings",
    "runs",
    "pretrained",
    "progress",
    "floor",
    "augment",
    "ngrams",
    "lexicon",
    "runtime",
    "stopwatch",
    "fast_text",
    "jobs",
    "model_card",
    "hub",
    "plan",
    "word_vectors",
}
OF_THE_RUNTIME = {"numpy", "distill.errors", "distill.runtime", *sys.stdlib_module_names}


def room_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.stem if len(relative.parts) == 1 else relative.parts[0]


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "distill":
            yield from (f"distill.{name.name}" for name in node.names if name.name != "__version__")
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield str(node.module)


SOURCES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def test_every_room_has_its_line() -> None:
    listed = {room for line in LINES for room in line}
    assert {room_of(path) for path in SOURCES} == listed


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    height = {room: -place for place, line in enumerate(LINES) for room in line}
    own = room_of(path)
    for name in imports(path):
        if name.startswith("distill."):
            other = name.split(".")[1]
            assert other == own or height[other] < height[own], f"{own} imports {other}"
        package = name.split(".")[0]
        assert own in DOORS.get(package, {own}), f"{package} has another door than {own}"
        assert package != "torch" or own not in WITHOUT_TORCH, f"{own} must do without torch"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_stay_small(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("path", [path for path in SOURCES if room_of(path) == "runtime"], ids=lambda path: path.name)
def test_the_runtime_needs_numpy_alone(path: Path) -> None:
    for name in imports(path):
        assert {name, name.split(".")[0], ".".join(name.split(".")[:2])} & OF_THE_RUNTIME, name
