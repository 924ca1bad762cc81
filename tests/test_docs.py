"""The documents say what is so."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from test_layers import LINES

from distill.cli import parser
from distill.config import MODES

ROOT = Path(__file__).parent.parent
READMES = ("README.md", "README.zh.md")


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", READMES)
def test_the_table_is_that_of_the_report(name: str) -> None:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "benchmarks" / "update_readme.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "| teacher |" in text(name) and "| LinearSVC |" in text(name)
    assert module.with_tables(text(name)) == text(name), "python benchmarks/update_readme.py"


@pytest.mark.parametrize("name", READMES)
def test_commands_can_be_typed(name: str) -> None:
    commands = re.findall(r"(?:^|`)python distill\.py([^`#\n]*)", text(name), re.MULTILINE)
    named = {mode for command in commands for mode in re.findall(r"--mode (\w+)", command)}
    assert named == set(MODES)
    for command in commands:
        arguments = command.replace("FOLDER", "x").replace("目录", "x").split()
        parser().parse_args(arguments)


def test_both_readmes_have_the_same_code() -> None:
    def code(name: str) -> list[str]:
        blocks = re.findall(r"```(?:bash|python)\n(.*?)```", text(name), re.DOTALL)
        return [re.sub(r"\s*#.*|目录|FOLDER", "", block) for block in blocks]

    english, chinese = (code(name) for name in READMES)
    assert english == chinese


def test_the_picture_of_the_rooms_is_the_tested_one() -> None:
    picture = text("docs/architecture.md").split("```\ncli\n")[1].split("```")[0]
    drawn = [{room.strip(" /") for room in line.split("|")} for line in f"cli\n{picture}".strip().splitlines()]
    assert drawn == [set(line) for line in LINES]


@pytest.mark.parametrize(
    "name", [*READMES, "docs/architecture.md", "docs/runtime.md", "CONTRIBUTING.md", "data/README.md"]
)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", text(name)):
        assert ((ROOT / name).parent / target).exists(), target


def test_pins_are_exact() -> None:
    for name in sorted(path.name for path in ROOT.glob("requirements*.txt")):
        for line in text(name).splitlines():
            assert line.startswith(("#", "-r requirements")) or "==" in line, line
    assert "torch==2.13.0" in text("requirements.txt").splitlines()
