"""docs/reference.md agrees with the command line."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from distill.config import MODES, SECTIONS
from distill.config.argparse import parser
from distill.config.toml import read_toml

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def make_reference() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_up_to_date(make_reference: ModuleType) -> None:
    assert make_reference.with_tables(PAGE) == PAGE, "python docs/make_reference.py"


def test_every_flag_and_default_is_documented() -> None:
    for action in parser()._actions:
        assert all(f"`{name}" in PAGE for name in action.option_strings)
    assert "| `--teacher_lr FLOAT` | peak learning rate of the encoder's last layer (default: 0.0002) |" in PAGE
    assert "| `--cell {lstm,gru,mingru,sru,qrnn}` | bilstm: type of recurrent cell" in PAGE
    assert "| `--strict`, `--no-strict` | stop at the first row of a data file" in PAGE
    assert re.search(r"`--unlabeled PATH` \| .*; can be repeated \|", PAGE)


def test_modes_use_existing_sections() -> None:
    used = {section for mode in MODES.values() for section in mode.sections}
    assert used == set(SECTIONS) - {"run"}
    for name, mode in MODES.items():
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{name}` |"))
        assert mode.summary in row and all(f"[{section}](#{section})" in row for section in mode.sections)


def test_links_lead_to_headings() -> None:
    headings = re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= set(headings)


def test_the_example_settings_file_is_valid(tmp_path: Path) -> None:
    example = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0]
    (tmp_path / "example.toml").write_text(example)
    assert len(read_toml(tmp_path / "example.toml")) == len(tomllib.loads(example)) == 4


def test_the_example_commands_parse() -> None:
    commands = re.findall(r"^(?:python distill\.py|distill) (--[^#>\n]*)", PAGE, re.MULTILINE)
    assert len(commands) == 6
    for command in commands:
        parser().parse_args(command.split())
