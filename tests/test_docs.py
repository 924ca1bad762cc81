"""Tables, commands, links and the package picture in the documents match the program."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from test_layers import LAYERS

from distill.cli import parser
from distill.config import MODES

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")
DOCUMENTS = (
    *READMES,
    *("CONTRIBUTING.md", "CHANGELOG.md", "data/README.md", "bert_pretrain/README.md", "embeddings/README.md"),
    *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))),
    *(f"benchmarks/{path.parent.name}/README.md" for path in sorted((ROOT / "benchmarks").glob("*/README.md"))),
)


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READMES)
def test_tables_match_their_json_files(name: str) -> None:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "benchmarks" / "update_readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "<!-- table: benchmarks/speed/benchmark.json -->" in text(name)
    assert module.with_tables(text(name)) == text(name), "python benchmarks/update_readme.py"


@pytest.mark.parametrize("name", READMES)
def test_commands_parse(name: str) -> None:
    commands = re.findall(r"(?:^|`)python distill\.py([^`#\n]*)", text(name), re.MULTILINE)
    modes = {mode for command in commands for mode in re.findall(r"--mode (\w+)", command)}
    assert modes == set(MODES)
    for command in commands:
        arguments = command.replace("FOLDER", "x").replace("目录", "x").split()
        parser().parse_args(arguments)


def test_the_page_about_teachers_has_commands_that_parse_and_a_function_that_labels() -> None:
    page = text("docs/teachers.md")
    commands = re.findall(r"^python distill\.py (.*)$", page, re.MULTILINE)
    assert len(commands) >= 6
    for command in commands:
        parser().parse_args(command.split())
    (source,) = re.findall(r"```python\n(# llm\.py.*?)```", page, re.DOTALL)
    program: dict[str, Any] = {}
    exec(re.sub(r'open\("prompt.txt".*', '"…"', source), program)  # noqa: S102 (our own page)
    program["ask"] = lambda prompt: "\n".join(f"{n}\t财经\t0.{n}" for n in range(1, prompt.count("\n") + 1)) + "\n"
    answers = [{"label": "财经", "confidence": 0.1}, {"label": "财经", "confidence": 0.2}]
    assert program["label"](["甲", "乙"]) == answers and program["label"].batch_size == 20


def test_both_readmes_have_the_same_code() -> None:
    def code(name: str) -> list[str]:
        blocks = re.findall(r"```(?:bash|python)\n(.*?)```|^\| `(python [^`]*)`", text(name), re.DOTALL | re.MULTILINE)
        return [re.sub(r"\s*#.*|目录|FOLDER", "", block or of_table) for block, of_table in blocks]

    english, chinese = (code(name) for name in READMES)
    assert english == chinese


def test_the_package_picture_matches_the_layer_test() -> None:
    picture = text("docs/architecture.md").split("```\n__main__\n")[1].split("```")[0]
    drawn = [
        {package.strip(" /") for package in line.split("|")} for line in f"__main__\n{picture}".strip().splitlines()
    ]
    assert drawn == [set(line) for line in LAYERS]


def test_architecture_names_every_module() -> None:
    rows = dict(re.findall(r"^\| `(\w+)/` \| (.*) \|$", text("docs/architecture.md"), re.MULTILINE))
    packages = {path.parent.name: path.parent for path in (ROOT / "distill").glob("*/__init__.py")}
    assert rows.keys() == packages.keys()
    for name, package in packages.items():
        modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
        assert modules <= set(re.findall(r"`(\w+)", rows[name])), f"{name}: a module is not in docs/architecture.md"


def test_architecture_names_existing_files() -> None:
    paths = re.findall(r"`((?:\w+/)+[\w.*]+\.(?:py|c|h|md))`", text("docs/architecture.md"))
    assert len(paths) > 20
    for path in paths:
        assert (ROOT / path).exists() or any((ROOT / "distill").glob(path)), path


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_resolve(name: str) -> None:
    for target, _, heading in re.findall(r"\]\((?!http)([^)#]*)(#([^)]+))?\)", text(name)):
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        assert not heading or heading in headings(path), heading


def headings(path: Path) -> set[str]:
    """A document's headings as anchors: letters, digits and hyphens stay, spaces become hyphens."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_both_readmes_link_the_same_documents() -> None:
    linked = [set(re.findall(r"\]\(((?:docs|benchmarks|data)[^)]*)\)", text(name))) for name in READMES]
    assert linked[0] == linked[1] and "docs/tutorial.md" in linked[0]


def test_pins_are_exact() -> None:
    for name in sorted(path.name for path in ROOT.glob("requirements*.txt")):
        for line in text(name).splitlines():
            assert line.startswith("#") or "==" in line, line
    assert "torch==2.13.0" in text("requirements.txt").splitlines()
