"""Which files of a folder hold train, dev and test: by their names, shards and folders of classes included."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path

from distill.data.formats import SUFFIXES, suffix_of
from distill.errors import UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "dev": ("dev", "validation", "valid", "val", "eval"),
    "test": ("test", "testing"),
}
NOT_DATA = ("class.txt", "labels.txt", "labels.json", "labels.jsonl", "readme.txt", "dataset_infos.json", "state.json")
CLASSES_OF_TASK = "class."  # class.TASK.txt
SHARD = re.compile(r"(.+?)-(\d+)-of-(\d+)(?:-[0-9a-f]+)?")
ARCHIVE = re.compile(r".+\.(zip|7z|rar|tgz|tar(\.\w+)?)", re.IGNORECASE)
SUBFOLDERS = ("data", "default")  # of data sets of the Hugging Face Hub


def find_files(folder: Path, skip: Collection[str] = ()) -> tuple[dict[str, list[Path]], list[str]]:
    """The files of every split except those in ``skip``, and the names of data files that belong to none.

    A file belongs to the split that is its whole name (``dev.csv``), else to the one that its name contains
    (``cnews.dev.txt``). A split may also be a set of shards (``train-00000-of-00002.parquet``), a folder of files, or a
    folder with a folder of texts per class. Links are followed wherever they lead: the user names a folder to train on,
    and in caches of the Hugging Face Hub every file is a link out of it.

    Raises:
        UserError: a split has two files, or lacks shards.
    """
    for place in _places(folder):
        entries = _data_entries(place)
        files = {
            split: found for split in SPLIT_NAMES if split not in skip and (found := _of_split(split, entries, place))
        }
        if "train" in files or (files and "train" in skip):
            used = {path for paths in files.values() for path in paths}
            used |= {path.parent for path in used if path.parent != place}
            others = [path for path in _places(folder) if path != place]
            unused = [*entries, *(entry for other in others for entry in _data_entries(other))]
            return files, [str(path.relative_to(folder)) for path in unused if path not in used]
    if "train" not in skip and _has_class_folders(folder):
        return {"train": [folder]}, []
    return {}, [path.name for path in _data_entries(folder)]


def find_archives(folder: Path) -> list[str]:
    """The names of archives in a folder, which are not read."""
    return sorted(path.name for path in folder.iterdir() if ARCHIVE.fullmatch(path.name))


def _places(folder: Path) -> list[Path]:
    """The folders that may hold the files of the splits."""
    return [place for place in (folder, *(folder / name for name in SUBFOLDERS)) if place.is_dir()]


def _data_entries(folder: Path) -> list[Path]:
    """The data files in a folder, and the folders that are named like a split."""
    names = [name for names in SPLIT_NAMES.values() for name in names]
    return [
        path
        for path in sorted(folder.iterdir())
        if path.name[0] != "." and (path.name.lower() in names if path.is_dir() else _is_data(path))
    ]


def _is_data(path: Path) -> bool:
    name = path.name.lower()
    return suffix_of(path) in SUFFIXES and name not in NOT_DATA and not name.startswith(CLASSES_OF_TASK)


def _of_split(split: str, entries: Sequence[Path], folder: Path) -> list[Path]:
    """The files of a split: those with exactly its name, else those with its name as a part."""
    names = SPLIT_NAMES[split]
    exact = [path for path in entries if _stem(path) in names]
    shards = [path for path in entries if (match := SHARD.fullmatch(_stem(path))) and match[1] in names]
    partial = [path for path in entries if _split_of(path) == split]
    candidates = exact or shards or partial
    if not candidates:
        return []
    if all(SHARD.fullmatch(_stem(path)) for path in candidates):
        return _all_shards(candidates, folder)
    if len(candidates) > 1:
        listed = ", ".join(path.name for path in candidates)
        raise UserError(f"{len(candidates)} files for {split}: {listed}", folder, f"--{split}_file FILE")
    (path,) = candidates
    if path.is_dir() and not _has_class_folders(path):
        found = sorted(file for file in path.iterdir() if _is_data(file) and file.name[0] != ".")
        files = list({file.resolve(): file for file in reversed(found)}.values())[::-1]  # links do not repeat rows
        if not files:
            what = "this folder has the name of a split, but neither data files nor two folders of texts"
            raise UserError(what, path, "rename it, or put the texts of each class into a folder: CLASS/1.txt, …")
        return _all_shards(files, path) if all(SHARD.fullmatch(_stem(file)) for file in files) else files
    return [path]


def _all_shards(paths: Sequence[Path], folder: Path) -> list[Path]:
    """The shards of a split, after a check that none is missing."""
    matches = [match for path in paths if (match := SHARD.fullmatch(_stem(path)))]
    count, names = int(matches[0][3]), {match[1] for match in matches}
    numbers = {int(match[2]) for match in matches}
    if len(names) > 1 or numbers != set(range(count)) or len(paths) != count:
        listed = ", ".join(path.name for path in paths[:5])
        raise UserError(f"found {len(paths)} of {count} shards: {listed}", folder, "copy them all, and no others")
    return list(paths)


def _split_of(path: Path) -> str:
    """The split that is a part of a file's name, between dots, dashes or underscores; empty: none or several."""
    parts = re.split(r"[._\- ]", _stem(path))
    splits = [split for split, names in SPLIT_NAMES.items() if any(name in parts for name in names)]
    return splits[0] if len(splits) == 1 else ""


def _stem(path: Path) -> str:
    """The name without suffixes, in lower case."""
    name = path.name.lower()
    return name if path.is_dir() else name.removesuffix(path.suffix.lower()).removesuffix(suffix_of(path))


def _has_class_folders(folder: Path) -> bool:
    """Whether a folder holds at least two folders of texts."""
    folders = [path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."]
    return len(folders) > 1 and {file.parent for file in texts_of_classes(folder)}.issuperset(folders)


def texts_of_classes(folder: Path) -> list[Path]:
    """The text files in the folders of classes, sorted; hidden files are none."""
    return sorted(
        path
        for path in folder.glob("*/*")
        if path.suffix.lower() == ".txt" and "." not in (path.name[0], path.parent.name[0]) and path.is_file()
    )
