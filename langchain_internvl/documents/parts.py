"""Cuts a page into overlapping parts between its lines, and merges the texts of the parts."""

from __future__ import annotations

import math
from difflib import SequenceMatcher
from typing import NamedTuple

import numpy as np
from PIL import Image

TILE = 448
"""Side of a tile of InternVL in pixels."""
_OVERLAP = 0.1
"""Overlap with the next part, as a share of a part."""
_LEAST_SCALE = 0.5
"""Least scale of a wide page that is shrunk and not cut."""
_ALIKE = 0.8
"""Least similarity ratio of two lines that count as the same line."""
_MOST_SHARED = 40
"""Most lines that two neighbouring parts share."""


class Part(NamedTuple):
    """A part of a page.

    Attributes:
        image: What is shown to the model.
        box: Left, top, right and bottom edge on the page, in pixels.
    """

    image: Image.Image
    box: tuple[int, int, int, int]


def tiles_needed(width: int, height: int) -> int:
    """Tiles of 448 pixels that a page takes without being shrunk by more than an eighth."""

    def along(side: int) -> int:
        return max(1, math.ceil(side / TILE - 0.125))

    return along(width) * along(height)


def cut_to_budget(page: Image.Image, max_tiles: int) -> list[Part]:
    """Cuts a page into parts of at most `max_tiles` tiles each, in reading order.

    Full-width bands are preferred, because they do not cut lines. A page more than twice as wide as
    high is shrunk, by at most half, if it then fits as a whole: its few lines would be cut. A page
    so wide that no band fits is cut into columns of bands.

    Args:
        page: The page.
        max_tiles: Most tiles of one part, from 1, the thumbnail not counted.

    Returns:
        The page itself, if it fits, or a smaller copy of a wide page; else parts that overlap.
    """
    if tiles_needed(*page.size) <= max_tiles:
        return [Part(page, (0, 0, *page.size))]
    scale = _scale_to_fit(page, max_tiles)
    if page.width > 2 * page.height and scale >= _LEAST_SCALE:
        size = int(page.width * scale), int(page.height * scale)
        return [Part(page.resize(size, Image.Resampling.LANCZOS), (0, 0, *page.size))]
    across = tiles_needed(page.width, 1)
    columns = math.ceil(across / max_tiles)
    while columns > 1 and tiles_needed(_widest(page.width, columns), 1) > max_tiles:
        columns += 1
    width = tiles_needed(_widest(page.width, columns), 1)
    rows = max(1, max_tiles // width)
    parts = []
    for left, right in _spans(page.width, columns):
        column = page.crop((left, 0, right, page.height))
        count = max(1, page.height // (rows * TILE))
        bands = cut_bands(column, count)
        while (
            any(tiles_needed(*band.image.size) > max_tiles for band in bands)
            and count < page.height
        ):
            count += 1
            bands = cut_bands(column, count)
        parts += [Part(image, (left, top, right, bottom)) for image, (_, top, _, bottom) in bands]
    return parts


def _scale_to_fit(page: Image.Image, max_tiles: int) -> float:
    """The largest scale at which a page needs at most `max_tiles` tiles."""

    def side(tiles: int) -> float:
        return (tiles + 0.125) * TILE  # the longest that `tiles_needed` counts as so many

    return max(
        min(side(max_tiles // rows) / page.width, side(rows) / page.height)
        for rows in range(1, max_tiles + 1)
    )


def cut_bands(page: Image.Image, count: int) -> list[Part]:
    """Cuts a page into overlapping bands, top to bottom, that begin and end between lines.

    Args:
        page: The page.
        count: Number of bands, from 1.
    """
    ink = _ink_of_rows(page)
    reach = round(page.height / count * _OVERLAP * 0.75)
    spans = _spans(page.height, count)
    bands = []
    for number, (top, bottom) in enumerate(spans):
        first = top if number == 0 else _nearest_gap(ink, top, reach)
        last = bottom if number == len(spans) - 1 else _nearest_gap(ink, bottom, reach)
        box = (0, first, page.width, last)
        bands.append(Part(page.crop(box), box))
    return bands


def _spans(length: int, count: int) -> list[tuple[int, int]]:
    """Splits a length into `count` equal spans (start, end), each overlapping the next."""
    if count <= 1:
        return [(0, length)]
    step = length / count
    shared = step * _OVERLAP
    return [
        (max(0, round(step * one - shared)), min(length, round(step * (one + 1) + shared)))
        for one in range(count)
    ]


def _widest(length: int, count: int) -> int:
    return max(last - first for first, last in _spans(length, count))


def _ink_of_rows(page: Image.Image) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Ink of each row of pixels: its difference from the paper."""
    grey = np.asarray(page.convert("L")).astype(np.float64)
    rows: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.abs(grey - np.median(grey)).mean(1)
    return rows


def _nearest_gap(
    ink: np.ndarray[tuple[int, ...], np.dtype[np.float64]], near: int, reach: int
) -> int:
    """The row with the least ink within `reach` rows of `near`; of equal rows the nearest."""
    first, last = max(0, near - reach), min(len(ink), near + reach + 1)
    return min(range(first, last), key=lambda row: (round(float(ink[row]), 1), abs(row - near)))


def merge_texts(texts: list[str]) -> str:
    """Merges the texts of overlapping parts; shared lines appear once.

    The lines at the end of a part are compared with those at the start of the next. Lines with
    small differences count as equal; a line that is cut at the edge of a part is taken from the
    part that has it whole.

    Args:
        texts: The texts in reading order.
    """
    merged: list[str] = []
    for text in texts:
        lines = text.splitlines()
        merged = _join(merged, lines) if merged else lines
    return "\n".join(merged)


def _join(upper: list[str], lower: list[str]) -> list[str]:
    """Joins the lines of two neighbouring parts."""
    tail, head = upper[-_MOST_SHARED:], lower[:_MOST_SHARED]
    best, place = 1, (len(tail), 0)
    for start in reversed(range(len(tail))):
        for skipped in (0, 1):  # the first line of a part may be half a line
            run = _shared(tail[start:], head[skipped:])
            # The whole tail must match, except a last line that may be cut.
            complete = run >= len(tail) - start - 1
            # Equal table rows do not determine the overlap: the smallest one loses no row.
            letters = sum(len(line) for line in {one.strip() for one in tail[start : start + run]})
            if run and complete and letters > best:
                best, place = letters, (start, skipped)
    kept = len(upper) - len(tail) + place[0]
    return [*upper[:kept], *lower[place[1] :]]


def _shared(tail: list[str], head: list[str]) -> int:
    """Number of equal leading lines."""
    count = 0
    for one, other in zip(tail, head, strict=False):
        if not _is_same(one, other):
            break
        count += 1
    return count


def _is_same(one: str, other: str) -> bool:
    one, other = " ".join(one.split()), " ".join(other.split())
    if not one or not other:
        return one == other
    return one == other or (
        min(len(one), len(other)) > 3
        and SequenceMatcher(None, one, other, autojunk=False).ratio() >= _ALIKE
    )
