"""Atomic writes: old or new and never a part, whatever stands at the path and whenever the process is killed."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.storage import atomic
from distill.storage.atomic import put_in_place, remove, remove_leftovers, write_file, write_folder, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def _each_way_to_replace(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if not request.param:
        monkeypatch.setattr(atomic, "_renameat2", lambda: None)


@pytest.fixture
def umask() -> Iterator[None]:
    old = os.umask(0o027)
    yield
    os.umask(old)


def test_a_written_file_leaves_no_temporary_file(tmp_path: Path) -> None:
    path = write_file(tmp_path / "new" / "好.txt", "新")
    assert path.read_text("utf-8") == "新" and names(path.parent) == ["好.txt"]


def test_a_name_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    path = write_file(tmp_path / ("好" * 85), "x")
    assert names(tmp_path) == [path.name]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_file(tmp_path / "a", "old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="the disk is full; no incomplete file was left"):
        write_file(path, "new")
    assert path.read_text() == "old" and names(tmp_path) == ["a"]


def test_permissions_are_those_of_the_replaced_file_or_the_umask(tmp_path: Path, umask: None) -> None:
    new, private = write_file(tmp_path / "new", "x"), write_file(tmp_path / "private", "old")
    assert mode(new) == 0o640
    private.chmod(0o600)
    write_file(private, "new")
    (tmp_path / "other").write_text("newest")
    assert mode(private) == 0o600 and private.read_text() == "new"
    put_in_place(tmp_path / "other", private)
    assert mode(private) == 0o600 and private.read_text() == "newest"


@pytest.mark.usefixtures("_each_way_to_replace")
def test_permissions_of_folders(tmp_path: Path, umask: None) -> None:
    for wanted in (0o750, 0o700):
        with write_folder(tmp_path / "f") as temporary:
            assert mode(temporary) == wanted
        assert mode(tmp_path / "f") == wanted
        (tmp_path / "f").chmod(0o700)


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    for target, link in (("disk/file", "file"), ("disk/folder", "folder")):
        (tmp_path / link).symlink_to(target)  # which is not there yet
    for content in ("old", "new"):
        write_file(tmp_path / "file", content)
        with write_folder(tmp_path / "folder") as temporary:
            (temporary / content).write_text("")
        assert (tmp_path / "disk" / "file").read_text() == content and names(tmp_path / "disk" / "folder") == [content]
    assert (tmp_path / "file").is_symlink() and (tmp_path / "folder").is_symlink()
    assert names(tmp_path) == ["disk", "file", "folder"] and names(tmp_path / "disk") == ["file", "folder"]


def test_a_pipe_is_written_to_and_a_folder_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    write_file(tmp_path / "pipe", "x")
    reader.join(10)
    assert received == [b"x"] and (tmp_path / "pipe").is_fifo()
    with pytest.raises(UserError, match="this is a folder, a file is needed"):
        write_file(tmp_path, "x")
    (tmp_path / "new").write_text("x")
    with pytest.raises(UserError, match="this is not a file"):
        put_in_place(tmp_path / "new", tmp_path / "pipe")


def test_a_file_is_not_replaced_by_a_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("mine")
    with pytest.raises(UserError, match="this is a file, a folder is needed"), write_folder(tmp_path / "f"):
        pass
    assert (tmp_path / "f").read_text() == "mine" and names(tmp_path) == ["f"]


@pytest.mark.usefixtures("_each_way_to_replace")
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
    assert names(target) == ["b"] and names(tmp_path) == ["folder"]


def test_a_folder_exists_at_any_time_while_it_is_replaced(tmp_path: Path) -> None:
    """With two renames instead of the exchange it would be missing between them."""
    target, is_done, seen = tmp_path / "folder", threading.Event(), set()

    def read() -> None:
        while not is_done.is_set():
            seen.add(target.is_dir())

    with write_folder(target) as temporary:
        (temporary / "a").touch()
    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(50):
        with write_folder(target) as temporary:
            (temporary / "b").touch()
    is_done.set()
    reader.join()
    assert seen == {True}


KILL = """
import os, signal, sys
from pathlib import Path
from distill.storage import atomic
if sys.argv[3] == "two renames":
    atomic._renameat2 = lambda: None
calls = 0
def dying(function):
    def call(*arguments, **more):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **more)
    return call
for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "fsync", "chmod"):
    setattr(os, name, dying(getattr(os, name)))
atomic._exchange = dying(atomic._exchange)
with atomic.write_folder(Path(sys.argv[1])) as temporary:
    (temporary / "a").write_text("new")
    (temporary / "b").write_text("new")
print("finished")
"""


@pytest.mark.parametrize("way", ["exchange", "two renames"])
def test_killed_at_any_step_the_old_or_the_new_folder_is_left(way: str, tmp_path: Path) -> None:
    target, found = tmp_path / "folder", []
    for step in range(1, 40):
        remove(target)
        target.mkdir()
        for name in "ab":
            (target / name).write_text("old")
        command = [sys.executable, "-c", KILL, str(target), str(step), way]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        remove_leftovers(tmp_path)
        assert names(tmp_path) == ["folder"], step
        found.append({(path.name, path.read_text()) for path in target.iterdir()})
        if "finished" in done.stdout:
            break
    old, new = {("a", "old"), ("b", "old")}, {("a", "new"), ("b", "new")}
    assert found[0] == old and found[-1] == new and all(content in (old, new) for content in found) and len(found) > 8


@pytest.mark.parametrize(("code", "what"), [(28, "disk is full"), (122, "disk is full"), (5, "input/output error")])
def test_an_error_of_the_disk_reported_by_a_rust_library(code: int, what: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=what), write_folder(tmp_path / "f"):
        raise RuntimeError(f'Error while serializing: Os {{ code: {code}, message: "…" }} (os error {code})')


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / ".teacher.abc.distill-aside").mkdir()
    (tmp_path / "report" / "deep").mkdir(parents=True)
    (tmp_path / "report" / "deep" / ".report.json.12.distill-aside").write_text("half")
    (tmp_path / "teacher").mkdir()
    (tmp_path / ".mine.old").write_text("a user's own file")
    (tmp_path / ".x.distill-aside").symlink_to(tmp_path / "teacher")
    other_job = tmp_path / ".labelled.csv.distill-parts" / ".000000.ab.distill-aside"
    other_job.mkdir(parents=True)
    remove_leftovers(tmp_path)
    assert names(tmp_path) == [".labelled.csv.distill-parts", ".mine.old", "report", "teacher"]
    assert names(tmp_path / "report" / "deep") == [] and other_job.is_dir()


def test_a_leftover_that_cannot_be_removed_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "distill")
    (tmp_path / ".a.1.distill-aside").write_text("")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(atomic, "remove", refuse)
    remove_leftovers(tmp_path)
    assert ".a.1.distill-aside: left by a killed process, cannot be removed: Permission denied" in caplog.text


def _file(path: Path) -> None:
    path.write_text("")


def _folder(path: Path) -> None:
    (path / "a" / "b").mkdir(parents=True)


def _link(path: Path) -> None:
    (path.parent / "kept").mkdir()
    path.symlink_to(path.parent / "kept")


@pytest.mark.parametrize("make", [_file, _folder, _link, os.mkfifo, lambda path: None])
def test_remove(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "x")
    remove(tmp_path / "x")
    assert names(tmp_path) in ([], ["kept"])


def test_a_path_that_is_not_utf_8_is_read_back(tmp_path: Path) -> None:
    name = os.fsdecode("体育".encode("gb18030"))
    assert json.loads(write_json(tmp_path / "a.json", {"path": name}).read_text("utf-8")) == {"path": name}
