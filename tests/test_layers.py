"""Packages import one way, modules have no cycles, each heavy library is imported in one place; one class per name."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "distill"
LAYERS = (  # highest first, as in docs/architecture.md; a package imports from strictly lower lines only
    ("__main__",),
    ("cli", "estimator"),
    ("commands", "serve"),
    ("predict",),
    ("reporting", "export", "teachers"),
    ("evaluation", "training"),
    ("models",),
    ("data",),
    ("text",),
    ("storage",),
    ("config", "runtime"),
    ("errors", "progress", "translation"),
)
ONLY_IN = {  # third-party package -> the only modules or packages that may import it
    "jieba": {"text.segmentation"},
    "gensim": {"text.word_vectors"},
    "transformers": {"models.transformers_checkpoint", "evaluation.baselines.bert_base"},
    "onnx": {"export.onnx"},
    "onnxruntime": {"export.onnx"},
    "fasttext": {"evaluation.baselines.fasttext"},
    "optuna": {"commands.tune"},
    "ray": {"predict.ray_engine"},
    "python_calamine": {"data.formats.excel_rows"},
    "fastapi": {"serve"},
    "uvicorn": {"serve"},
    "prometheus_client": {"serve"},
    "huggingface_hub": {"export.hub", "models.transformers_checkpoint"},
    "shtab": {"cli"},
    "jinja2": {"reporting.html", "export.model_card"},
}
WITHOUT_TORCH = {  # these must start quickly: --help, the data checks, the runtime
    *("cli", "estimator", "errors", "progress", "config", "storage", "runtime", "data", "reporting", "predict"),
    *("text.segmentation", "text.ngrams", "text.word_vectors", "models.pretrained"),
    *("evaluation.metrics", "evaluation.multi_label", "evaluation.baselines.linear_svm"),
    "evaluation.baselines.fasttext",
    *("export.model_card", "export.hub", "training.defaults"),
}
RUNTIME_IMPORTS = {"numpy", "distill.errors", "distill.runtime", *sys.stdlib_module_names}


def name_of(path: Path) -> str:
    """A module's dotted name below distill; for a package's __init__, the name of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_in(module: str, names: set[str]) -> bool:
    """Whether a module is one of ``names`` or lies in a package that is."""
    return any(module == name or module.startswith(f"{name}.") for name in names)


SOURCES = {name_of(path): path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"}


def imports(path: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports, or from which it imports names."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            imported = {f"{node.module}.{name.name}" for name in node.names}
            modules = {name for name in imported if name.removeprefix("distill.") in SOURCES}
            yield from modules
            if imported - modules:
                yield str(node.module)


def test_every_package_is_listed() -> None:
    assert {name.split(".")[0] for name in SOURCES} == {package for line in LAYERS for package in line}


@pytest.mark.parametrize("module", SOURCES)
def test_imports_go_down(module: str) -> None:
    height = {package: -depth for depth, line in enumerate(LAYERS) for package in line}
    package = module.split(".", maxsplit=1)[0]
    for name in imports(SOURCES[module]):
        top = name.split(".")[0]
        if name.startswith("distill."):
            other = name.split(".")[1]
            assert other == package or height[other] < height[package], f"{module} imports {name}"
        assert is_in(module, ONLY_IN.get(top, {module})), f"{module} imports {top}"
        assert top != "torch" or not is_in(module, WITHOUT_TORCH), f"{module} must not import torch"


@pytest.mark.parametrize("package", sorted({name.split(".")[0] for name in SOURCES}))
def test_no_cycles_within_a_package(package: str) -> None:
    modules = {name: path for name, path in SOURCES.items() if is_in(name, {package})}
    graph = {
        name: {imported.removeprefix("distill.") for imported in imports(path)} & modules.keys()
        for name, path in modules.items()
    }
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", [name for name in SOURCES if is_in(name, {"runtime"})])
def test_the_runtime_imports_only_numpy(module: str) -> None:
    for name in imports(SOURCES[module]):
        assert {name, name.split(".")[0], ".".join(name.split(".")[:2])} & RUNTIME_IMPORTS, name


def test_one_class_per_name() -> None:
    classes = Counter(
        node.name
        for path in SOURCES.values()
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert not [name for name, count in classes.items() if count > 1]
