"""Labels that are paths from a root, as in ``财经##股票``: the levels above them, and every label's ancestor there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

AUTO, NONE = "auto", "none"
SEPARATOR = "##"  # that is detected
MIN_PATHS = 0.9  # share of the labels that are paths, where the separator is detected
MAX_MOVING = 0.1  # share of the names on a path that occur at several depths; the names of label sets do


@dataclass(frozen=True)
class Level:
    """A level above the labels.

    Args:
        number: 1 is the level below the root.
        names: of its classes, which are paths too.
        ancestors: which of these is the ancestor of each label, (labels,). A shorter path is its own ancestor.
    """

    number: int
    names: tuple[str, ...]
    ancestors: tuple[int, ...]


@dataclass(frozen=True)
class Hierarchy:
    """The levels above the labels, the root's first, without those that have a single class or as many as labels.

    ``separator`` is what separates the names on a path, ``depth`` the number of names on the longest one, and
    ``parents`` numbers the path above each label (labels,).
    """

    separator: str
    depth: int
    levels: tuple[Level, ...]
    parents: tuple[int, ...]

    @property
    def note(self) -> str:
        """What was detected, in one line."""
        first, *others = [(len(level.names), level.number) for level in self.levels]
        others.append((len(self.levels[0].ancestors), self.depth))
        on_others = "".join(f", {count} on level {number}" for count, number in others)
        return f"labels are paths separated by {self.separator}: {first[0]} classes on level {first[1]}{on_others}"


def find_hierarchy(labels: Sequence[str], separator: str = AUTO) -> Hierarchy | None:
    """The hierarchy of labels that are paths; None if they are not, or if no level has fewer classes, but several.

    Args:
        labels: names of the classes.
        separator: between the names on a path; ``AUTO``: "##", if nearly all labels contain it; ``NONE``: no hierarchy.
    """
    if separator in (NONE, "") or not labels:
        return None
    is_given = separator != AUTO
    separator = separator if is_given else SEPARATOR
    paths = [_path(label, separator) for label in labels]
    if not is_given and not _are_paths(paths):
        return None
    depth = max(map(len, paths))
    levels = (_level(number, paths, separator) for number in range(1, depth))
    kept = tuple(level for level in levels if 1 < len(level.names) < len(labels))
    above = {path: number for number, path in enumerate(dict.fromkeys(path[:-1] for path in paths))}
    return Hierarchy(separator, depth, kept, tuple(above[path[:-1]] for path in paths)) if kept else None


def _path(label: str, separator: str) -> tuple[str, ...]:
    return tuple(name for part in label.split(separator) if (name := part.strip()))


def _are_paths(paths: Sequence[tuple[str, ...]]) -> bool:
    """Whether nearly all labels are paths, and the names on them keep to one depth.

    Those of label sets that are written alike (体育##财经, 财经##科技) do not.
    """
    depths: dict[str, set[int]] = {}
    for path in paths:
        for depth, name in enumerate(path):
            depths.setdefault(name, set()).add(depth)
    moving = sum(len(found) > 1 for found in depths.values())
    return sum(len(path) > 1 for path in paths) >= MIN_PATHS * len(paths) and moving <= MAX_MOVING * len(depths)


def _level(number: int, paths: Sequence[tuple[str, ...]], separator: str) -> Level:
    ancestors = [path[:number] for path in paths]
    numbers = {path: index for index, path in enumerate(dict.fromkeys(ancestors))}
    names = tuple(separator.join(path) for path in numbers)
    return Level(number, names, tuple(numbers[path] for path in ancestors))
