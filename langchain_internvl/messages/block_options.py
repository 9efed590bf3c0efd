"""Warns of options of media blocks that are misspelt, or without effect for the kind of medium."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import lru_cache

_OPTIONS: Mapping[str, frozenset[str]] = {
    "min_tiles": frozenset({"image", "pdf"}),
    "max_tiles": frozenset({"image", "pdf", "video"}),
    "max_dynamic_patch": frozenset({"image", "pdf", "video"}),
    "detail": frozenset({"image", "pdf", "video"}),
    "pages": frozenset({"pdf"}),
    "password": frozenset({"pdf"}),
    "num_frames": frozenset({"video"}),
    "nframes": frozenset({"video"}),
    "max_tiles_per_frame": frozenset({"video"}),
    "bound": frozenset({"video"}),
    "video_start": frozenset({"video"}),
    "video_end": frozenset({"video"}),
}
"""Options of media blocks, and the kinds of media that they apply to."""

_FOREIGN = frozenset({
    "format", "fps", "frame", "frames", "max_frames", "max_pixels", "min_frames", "min_pixels",
    "name", "page", "page_number", "password_id", "title", "total_pixels", "type", "video_fps",
    "video_id",
})  # fmt: skip
"""Fields of other providers, and of references, that are no misspelt options."""

_LEAST_LENGTH = 6
_LONG = 9
"""Length, without underscores, from which two typing errors are still recognised."""


def warn_of_options(kind: str, fields: Mapping[str, object], where: str) -> None:
    """Warn of options without effect; other unknown fields belong to other providers.

    Args:
        kind: "image", "video" or "pdf".
        fields: Fields of the block.
        where: Position of the block.
    """
    for name, value in fields.items():
        if value is None or not isinstance(name, str):
            continue
        if name in _OPTIONS:
            if kind not in _OPTIONS[name] and kind in {"image", "pdf", "video"}:
                warnings.warn(f"{where}: {name} has no effect on a medium of kind {kind!r}",
                              stacklevel=2)  # fmt: skip
        elif hint := _hint(name):
            warnings.warn(f"{where}: a block has no option {name!r}{hint}", stacklevel=2)


@lru_cache(maxsize=1024)
def _hint(name: str) -> str:
    """What a misspelt option means; "": the name resembles no option."""
    if name in _FOREIGN or len(name) > 99:
        return ""
    plain = _plain(name)
    near = []
    for option in _OPTIONS:
        known = _plain(option)
        if plain[:1] == known[0] and max(len(plain), len(known)) >= _LEAST_LENGTH:
            near.append((_distance(plain, known), len(known), option))
    errors, length, option = min(near, default=(3, 0, ""))
    return f"; did you mean {option!r}?" if errors <= (2 if length >= _LONG else 1) else ""


def _plain(name: str) -> str:
    """A name without differences of style: numFrames, num-frames and num_frames are the same."""
    return name.lower().replace("_", "").replace("-", "")


def _distance(one: str, other: str) -> int:
    """Number of letters that are added, left out, replaced or exchanged with their neighbour.

    The optimal string alignment distance (https://en.wikipedia.org/wiki/Damerau-Levenshtein_distance).
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, letter in enumerate(one, 1):
        current = [row]
        for column, known in enumerate(other, 1):
            best = min(last[column] + 1, current[-1] + 1, last[column - 1] + (letter != known))
            is_swap = row > 1 and column > 1 and one[row - 2] == known
            if is_swap and letter == other[column - 2]:
                best = min(best, before[column - 2] + 1)
            current.append(best)
        before, last = last, current
    return last[-1]
