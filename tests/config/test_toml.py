"""The settings file: writing and reading it back, and errors with line numbers."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from distill.config import SECTIONS, STUDENTS, Settings, TransferSettings
from distill.config.argparse import parser, settings_from
from distill.config.toml import read_toml, to_toml
from distill.errors import UserError

CHECKED_TOGETHER = {"objective.objective", "objective.hard_weight", "objective.logits_weight"}

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


def settings(*arguments: str) -> Settings:
    return settings_from(vars(parser().parse_args(list(arguments))))


def write_toml(folder: Path, text: str) -> str:
    path = folder / "mine.toml"
    path.write_bytes(text.encode())
    return str(path)


def values_of(field: dataclasses.Field[Any]) -> st.SearchStrategy[Any]:
    """Values that a field allows."""
    low, high = (None if math.isinf(end) else end for end in (field.metadata["low"], field.metadata["high"]))
    if field.metadata["choices"]:
        return st.sampled_from(tuple(field.metadata["choices"]))
    kinds: dict[type, Any] = {
        bool: st.booleans,
        str: lambda: TEXTS,
        tuple: lambda: st.lists(TEXTS, max_size=3).map(tuple),
        int: lambda: st.integers(low, None if high is None else int(high)),
        float: lambda: st.floats(low, high, allow_nan=False, width=64),
    }
    return st.one_of(st.just(field.default), kinds[type(field.default)]())


def sections() -> dict[str, st.SearchStrategy[Any]]:
    return {
        name: st.builds(
            kind,
            **{
                field.name: values_of(field)
                for field in dataclasses.fields(kind)
                if f"{name}.{field.name}" not in CHECKED_TOGETHER
            },
        )
        for name, kind in SECTIONS.items()
    }


@hypothesis.given(st.builds(Settings, **sections()))
# characters that TOML escapes
@hypothesis.example(Settings(transfer=TransferSettings(unlabeled=("a\x7f\x01\n\r", '\\"😀\u2028'))))
@hypothesis.settings(max_examples=50)
def test_what_is_written_is_read_back(original: Settings) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.toml"
        path.write_bytes(to_toml(original).encode())
        assert settings("--config", str(path)) == original


def test_only_changed_settings_are_written_with_their_help_texts() -> None:
    assert to_toml(Settings()).count("\n") == 1
    parsed = settings("--a", "0.5", "--strict", "--unlabeled", "一.txt", "--unlabeled", 'a"b', "--mode", "compare")
    assert to_toml(parsed).splitlines()[1:] == [
        "",
        "# what to do",
        'mode = "compare"',
        "",
        "# file of unlabelled texts: txt (one text per line) or any other format of data/README.md",
        'unlabeled = ["一.txt", "a\\"b"]',
        "",
        "# weight of the cross-entropy with the labels; with soft targets, Hinton's alpha; -1: chosen automatically",
        "a = 0.5",
        "",
        "# stop at the first row of a data file or of --input that cannot be used, instead of setting it aside",
        "strict = true",
    ]


def test_values_of_every_type(tmp_path: Path) -> None:
    text = 'student_epochs = 3\na = 1\nstrict = true\nunlabeled = ["x", "y"]\nmode = "label"\nstudent_lr = 1e-3\n'
    parsed = settings("--config", write_toml(tmp_path, "\ufeff" + text.replace("\n", "\r\n")))
    assert parsed.student.epochs == 3 and parsed.objective.hard_weight == 1.0 and parsed.predict.strict
    assert (
        parsed.transfer.unlabeled == ("x", "y") and parsed.run.mode == "label" and parsed.student.learning_rate == 1e-3
    )
    assert isinstance(parsed.objective.hard_weight, float)  # 1 and 1.0 have different fingerprints


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = write_toml(tmp_path, 'student_epochs = 3\nseeds = 2\nstrict = true\nunlabeled = ["x"]\n')
    parsed = settings("--config", path, "--student_epochs", "5", "--no-strict", "--unlabeled", "y")
    assert (parsed.student.epochs, parsed.run.seeds, parsed.predict.strict) == (5, 2, False)
    assert parsed.transfer.unlabeled == ("y",)
    same = settings("--config", path, "--seeds", "1")  # also if the flag equals the default
    assert same.run.seeds == 1 and same.student.with_defaults().hidden == STUDENTS["bilstm"].defaults["hidden"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "# student_epoch\n\nstudent_epoch = 3\n",
            "line 3: unknown setting 'student_epoch', did you mean student_epochs?",
        ),
        ("zzzz = 3\n", "line 1: unknown setting 'zzzz' -> use the names of"),
        ("seeds = 2\n[student]\nepochs = 8\n", "line 2: 'student' starts a table; write plain names"),
        ("student.epochs = 8\n", "line 1: 'student' starts a table"),
        ("\nseeds = true\n", "line 2: seeds is True, must be a whole number"),
        ("seeds = 2.0\n", "seeds is 2.0, must be a whole number"),
        ('a = "1"\n', "a is '1', must be a number"),
        ("a = true\n", "a is True, must be a number"),
        (f"a = 1{'0' * 400}\n", "line 1: a is too large"),
        (f"seeds = 0x{'f' * 5000}\n", "line 1: seeds is too large"),
        (f"a = {2**60}\n", f"a is {2**60}, must be a number"),
        ("strict = 1\n", "strict is 1, must be true or false"),
        ("data = 1\n", "data is 1, must be a string in quotes"),
        ('unlabeled = "x"\n', "unlabeled is 'x', must be a list of strings in quotes"),
        ("unlabeled = [1]\n", "unlabeled is [1], must be a list of strings in quotes"),
        ("zzzz = 3\nseeds = 2.0\n", "line 1: unknown setting 'zzzz'; line 2: seeds is 2.0"),
        ("config = 'x'\n", "unknown setting 'config'"),
        ("seeds = 2\nseeds = \n", "invalid TOML: Invalid value (at line 2, column 9)"),
        ("seeds = 2\nseeds = 3\n", "invalid TOML: Cannot overwrite a value"),
        (f"seeds = {'[' * 9999}{']' * 9999}", "invalid TOML: maximum recursion depth exceeded"),
    ],
)
def test_invalid_settings(tmp_path: Path, text: str, message: str) -> None:
    path = write_toml(tmp_path, text)
    with pytest.raises(UserError) as caught:
        settings("--config", path)
    assert str(caught.value).startswith(f"{path}: ") and message in str(caught.value)
    assert "\n" not in str(caught.value) and caught.value.hint


def test_files_that_are_not_utf8_or_missing(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_bytes("data = '中'".encode("gb18030"))
    with pytest.raises(UserError, match="invalid TOML: 'utf-8' codec can't decode"):
        read_toml(path)
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none.toml")


def test_ranges_are_checked_in_the_file_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--student_dropout is 1.5, must be between 0 and 0.9"):
        settings("--config", write_toml(tmp_path, "student_dropout = 1.5\n"))
    with pytest.raises(UserError, match="--mode is 'train', must be one of all, train_teacher"):
        settings("--config", write_toml(tmp_path, "mode = 'train'\n"))
    with pytest.raises(UserError, match=r"--wait is inf, must be between 0.001 and 3600"):
        settings("--config", write_toml(tmp_path, "wait = inf\n"))
    with pytest.raises(
        UserError, match=r"--seed is 9{20}, must be between 0 and 4e\+09"
    ):  # the limit of random generators
        settings("--config", write_toml(tmp_path, f"seed = {'9' * 20}\n"))
    with pytest.raises(UserError, match=r"--data is 'a\\x00b', must be UTF-8 text without NUL characters"):
        settings("--config", write_toml(tmp_path, 'data = "a\\u0000b"\n'))


def test_undecodable_bytes_are_refused_on_the_command_line() -> None:
    with pytest.raises(UserError, match=r"--data is 'x\\udcff', must be UTF-8 text without NUL characters"):
        settings("--data", "x\udcff")
    with pytest.raises(UserError, match="--unlabeled is"):
        settings("--unlabeled", "y", "--unlabeled", "x\udcff")
