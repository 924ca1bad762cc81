"""Atomic writes of files and folders, fingerprints, provenance, and the layout of a run's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.errors import UserError, join_problems
from distill.storage.atomic import write_file, write_folder, write_json
from distill.storage.fingerprints import (
    PROVENANCE_FILE,
    fingerprint_file,
    fingerprint_texts,
    package_versions,
    provenance_differences,
)
from distill.storage.run_folder import RunFolder, remove_leftovers


def test_a_written_file_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = write_file(tmp_path / "new" / "好.txt", "新")
    assert path.read_text("utf-8") == "新" and [p.name for p in path.parent.iterdir()] == ["好.txt"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "a", "old")
    original = Path.write_bytes

    def write_one_byte_and_fail(self: Path, payload: bytes) -> int:
        original(self, payload[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_one_byte_and_fail)
    with pytest.raises(UserError, match="the disk is full; no incomplete file was left"):
        write_file(path, "new")
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("failure", [ValueError("bad"), KeyboardInterrupt()])
def test_a_folder_is_replaced_only_if_the_block_succeeds(failure: BaseException, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    with write_folder(target) as temporary:
        (temporary / "a").write_text("1")
    with pytest.raises(type(failure)), write_folder(target) as temporary:
        (temporary / "a").write_text("2")
        raise failure
    assert (target / "a").read_text() == "1"
    with write_folder(target) as temporary:
        (temporary / "b").write_text("3")
    assert [p.name for p in target.iterdir()] == ["b"] and [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_reported_by_a_rust_library(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="disk is full"), write_folder(tmp_path / "f"):
        raise RuntimeError('Error while serializing: Os { code: 28, message: "No space left" } (os error 28)')


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".teacher.abc.distill-aside").mkdir()
    (tmp_path / ".report.json.12.distill-aside").write_text("half")
    (tmp_path / "teacher").mkdir()
    (tmp_path / ".mine.old").write_text("a user's own file")
    remove_leftovers(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"teacher", ".mine.old"}


def test_provenance_differences_name_what_changed(tmp_path: Path) -> None:
    assert provenance_differences(tmp_path, {"seed": 1}) == ["made_from.json is missing"]
    write_json(tmp_path / PROVENANCE_FILE, {"seed": 1, "data": "x", "settings": {"lr": 0.1}})
    assert provenance_differences(tmp_path, {"seed": 1, "settings": {"lr": 0.1}}) == []
    assert provenance_differences(tmp_path, {"seed": 2, "data": "x", "new": 1}) == ["seed changed", "new changed"]
    for broken in ("{", "[]"):
        (tmp_path / PROVENANCE_FILE).write_text(broken)
        assert provenance_differences(tmp_path, {"seed": 1}) == ["made_from.json is broken"]


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprints_of_lines_differ_when_the_lines_do(first: list[str], second: list[str]) -> None:
    assert (fingerprint_texts(first) == fingerprint_texts(second)) == (first == second)


def test_fingerprint_of_a_file(tmp_path: Path) -> None:
    first, second = write_file(tmp_path / "a", "x"), write_file(tmp_path / "b", "x")
    assert fingerprint_file(first) == fingerprint_file(second) != fingerprint_file(write_file(second, "y"))


def test_layout_of_a_run_folder() -> None:
    folder = RunFolder(Path("runs/demo"))
    assert folder.model("student") == Path("runs/demo/student")
    assert folder.model("student_alone", 2) == Path("runs/demo/student_alone.3")
    assert folder.teacher_cache(Path("runs/demo/teacher"), "logits") == Path("runs/demo/cache/teacher.logits")
    elsewhere = [folder.teacher_cache(Path(f"runs/{name}/teacher"), "logits").name for name in ("a", "b")]
    assert elsewhere[0].startswith("teacher-") and elsewhere[0] != elsewhere[1]


def test_versions_and_joined_problems() -> None:
    assert {"python", "torch", "jieba"} <= package_versions().keys()
    assert join_problems(["a", "b"]) == "a; b"
    assert join_problems([str(n) for n in range(7)]) == "0; 1; 2; 3; 4; and 2 more"
