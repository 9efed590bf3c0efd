"""Matches of a glob, without the links that lead round in circles."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Matches:
    """What a glob matches.

    Attributes:
        paths: Files and folders, sorted.
        loops: Links to a folder that contains them, which a wildcard reached: neither they nor
            what is behind them is in `paths`, sorted.
    """

    paths: list[Path]
    loops: list[Path]


def match(pattern: Path) -> Matches:
    """The matches of a pattern: as of `glob.glob(pattern, recursive=True)`, but for loops.

    A link to a folder that contains it is followed where the pattern names it (`in/current/*.png`),
    but not where `*` or `**` reaches it: its files have another name already, and `**` would follow
    it round and round.
    """
    parts = pattern.parts[1:] if pattern.anchor else pattern.parts
    start = next((n for n, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    loops: set[Path] = set()
    found = {Path(pattern.anchor, *parts[:start])}
    fixed = len(pattern.parts) - len(parts) + start  # parts that no wildcard reaches
    for part in parts[start:]:
        reached: set[Path] = set()
        for folder in filter(_is_folder, found):
            reached.update(_reached(folder, part, fixed, loops))
        found = reached
    return Matches(sorted(found - {Path()}), sorted(loops))


def _reached(folder: Path, part: str, fixed: int, loops: set[Path]) -> Iterator[Path]:
    """What one part of a pattern matches in a folder; loops are added to `loops` instead."""
    if part != "**":
        for path in _children(folder, part):
            if glob.has_magic(part) and _is_loop(path, fixed):
                loops.add(path)
            else:
                yield path
        return
    waiting = [folder]
    while waiting:
        path = waiting.pop()
        yield path
        if _is_folder(path):
            for child in _children(path, "*"):
                if _is_loop(child, fixed):
                    loops.add(child)
                else:
                    waiting.append(child)


def _children(folder: Path, part: str) -> Iterator[Path]:
    for name in glob.glob(part, root_dir=folder):  # noqa: PTH207 - also names without wildcards
        yield folder / name


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - False where Path.is_dir() raises


def _is_loop(path: Path, fixed: int) -> bool:
    """Whether a path is a link to a folder that contains it.

    Folders above the link by name count from the last one that the pattern names: a chain of links
    may lead back to them.
    """
    if not path.is_symlink() or not _is_folder(path):
        return False
    target = path.resolve()
    above = (one for one in path.parents if len(one.parts) >= fixed)
    return any(one.resolve().is_relative_to(target) for one in above)
