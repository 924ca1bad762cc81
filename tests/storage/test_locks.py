"""Locks exclude other processes, name who holds them, and never touch what a symbolic link leads to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.storage.locks import exclusive_lock, lock_file

# Each process enters the locked block COUNT times and notes every entry and exit in one file.
WORKER = """
import os, sys
from pathlib import Path
from distill.errors import UserError
from distill.storage.locks import exclusive_lock
target, count = Path(sys.argv[1]), int(sys.argv[2])
journal = os.open(target.with_name("journal"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
entered = 0
while entered < count:
    try:
        with exclusive_lock(target):
            os.write(journal, b"(")
            entered += 1
            os.write(journal, b")")
    except UserError as error:
        assert "another process is writing here" in str(error), error
"""


def enter(target: Path, processes: int, count: int) -> str:
    command = [sys.executable, "-c", WORKER, str(target), str(count)]
    workers = [subprocess.Popen(command) for _ in range(processes)]
    assert [worker.wait() for worker in workers] == [0] * processes
    return target.with_name("journal").read_text()


@pytest.mark.parametrize("is_folder", [False, True])
def test_processes_never_overlap(is_folder: bool, tmp_path: Path) -> None:
    if is_folder:
        (tmp_path / "output").mkdir()
    assert enter(tmp_path / "output", 3, 300) == "()" * 900
    assert not lock_file(tmp_path / "output").exists()


@pytest.mark.slow
def test_six_processes_never_overlap(tmp_path: Path) -> None:
    assert enter(tmp_path / "output", 6, 10_000) == "()" * 60_000


def test_the_message_names_the_holder(tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    held = exclusive_lock(output)
    with held, pytest.raises(UserError) as error, exclusive_lock(output, "wait"):
        pass
    assert f"process {os.getpid()} on {os.uname().nodename}, since 20" in str(error.value)
    with exclusive_lock(output):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"process": "x"}', b"\xff" * 5000])
def test_a_damaged_note_of_the_holder(content: bytes, tmp_path: Path) -> None:
    output = tmp_path / "out.csv"
    with exclusive_lock(output):
        lock_file(output).write_bytes(content)
        with pytest.raises(UserError, match="another process is writing here"), exclusive_lock(output):
            pass


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe", "folder"])
def test_a_lock_that_is_no_file_is_refused_and_left_as_it_is(kind: str, tmp_path: Path) -> None:
    output, victim = tmp_path / "out.csv", tmp_path / "victim"
    victim.write_text("precious")
    planted = lock_file(output)
    if kind.endswith("link"):
        planted.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    elif kind == "pipe":
        os.mkfifo(planted)
    else:
        planted.mkdir()
    with pytest.raises(UserError, match=r"as a lock.*no process uses it, remove it"), exclusive_lock(output):
        pass
    assert victim.read_text() == "precious" and not (tmp_path / "nowhere").exists()


def test_links_to_one_output_share_its_lock(tmp_path: Path) -> None:
    (tmp_path / "link.csv").symlink_to("out.csv")
    with (
        exclusive_lock(tmp_path / "out.csv"),
        pytest.raises(UserError, match="another"),
        exclusive_lock(tmp_path / "link.csv"),
    ):
        pass


def test_a_folder_that_cannot_hold_a_lock() -> None:
    with pytest.raises(UserError, match="check the folder's permissions"), exclusive_lock(Path("/proc/out.csv")):
        pass


def test_without_locks_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    caplog.set_level("INFO", "distill")
    with exclusive_lock(tmp_path / "out.csv"):
        assert "there are no locks here; do not let two commands write here at a time" in caplog.text
