"""Fingerprints, provenance, and the layout of a run's folder."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from distill.errors import join_problems
from distill.storage.atomic import write_file, write_json
from distill.storage.fingerprints import (
    PROVENANCE_FILE,
    changed_files,
    fingerprint_bytes,
    fingerprint_file,
    fingerprint_texts,
    package_versions,
    provenance_differences,
)
from distill.storage.run_folder import RunFolder


def test_provenance_differences_name_what_changed(tmp_path: Path) -> None:
    assert provenance_differences(tmp_path, {"seed": 1}) == ["made_from.json is missing"]
    write_json(tmp_path / PROVENANCE_FILE, {"seed": 1, "data": "x", "settings": {"lr": 0.1}})
    assert provenance_differences(tmp_path, {"seed": 1, "settings": {"lr": 0.1}}) == []
    assert provenance_differences(tmp_path, {"seed": 2, "data": "x", "new": 1}) == ["seed changed", "new changed"]
    for broken in ("{", "[]"):
        (tmp_path / PROVENANCE_FILE).write_text(broken)
        assert provenance_differences(tmp_path, {"seed": 1}) == ["made_from.json is broken"]


def test_changed_files(tmp_path: Path) -> None:
    first, second = write_file(tmp_path / "a", "x"), write_file(tmp_path / "b", "y")
    files = {path.name: fingerprint_file(path) for path in (first, second)}
    write_json(tmp_path / PROVENANCE_FILE, {"seed": 1, "files": files})
    assert changed_files(tmp_path) == [] == provenance_differences(tmp_path, {"seed": 1})
    first.write_text("z")
    second.unlink()
    assert changed_files(tmp_path) == ["a", "b"]
    for of_older_version in ({"seed": 1}, {"seed": 1, "files": None}):
        write_json(tmp_path / PROVENANCE_FILE, of_older_version)
        assert changed_files(tmp_path) == []


@given(st.lists(st.text()), st.lists(st.text()))
def test_fingerprints_of_lines_differ_when_the_lines_do(first: list[str], second: list[str]) -> None:
    assert (fingerprint_texts(first) == fingerprint_texts(second)) == (first == second)


def test_fingerprint_of_a_file(tmp_path: Path) -> None:
    first, second = write_file(tmp_path / "a", "x"), write_file(tmp_path / "b", "x")
    assert fingerprint_file(first) == fingerprint_file(second) != fingerprint_file(write_file(second, "y"))
    assert fingerprint_bytes(b"x") == fingerprint_file(first)


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
