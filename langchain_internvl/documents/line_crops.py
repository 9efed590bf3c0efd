"""Shows a line of text to a model: broken into rows on a canvas of one tile.

A tile is square and a line is long: scaled to a tile's width, its letters would be a few pixels
high. Rows of a line as long as the tile is wide keep them large.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from langchain_internvl.documents.levels import median_of_counts
from langchain_internvl.documents.parts import TILE

_MARGIN = 16
_HEIGHT = 40
"""Height of a row in pixels: a line in letters of 34 pixels, from "d" to "p", with its margin."""
_PITCH = 1.35
"""Distance of the rows, in heights."""
_LOWEST = 16
"""Least height of a row in pixels: what then does not fit is made smaller still."""
_EARLIEST = 0.55
"""Share of a row that is filled at least before it is broken."""
_NEARLY = 0.7
"""Least width of a gap between words, as a share of the widest one nearby."""


def show_line(line: Image.Image) -> Image.Image:
    """A canvas of one tile with a line of text.

    Args:
        line: The line, dark on light, in mode RGB.

    Returns:
        An image of 448 x 448 pixels in mode RGB, in the colour of the line's paper. A long line is
        broken into rows, between words if it can be.
    """
    paper = tuple(round(median_of_counts(one.histogram())) for one in line.split())
    canvas = Image.new("RGB", (TILE, TILE), paper)
    room = TILE - 2 * _MARGIN
    height = float(_HEIGHT)
    while height > _LOWEST and _rows(line, height, room) * height * _PITCH > room:
        height *= 0.9
    # Rows are broken early, between words, so a line may take a row more than its length.
    scale = height / line.height
    if _rows(line, height, room) * height * _PITCH > room:
        scale *= math.sqrt(room / (_rows(line, height, room) * height * _PITCH))
    spans = _break(line, room / scale)
    size = scale * line.height
    pitch = min(_PITCH * size, room / len(spans))
    top = _MARGIN + max(0.0, (room - pitch * len(spans)) / 4)
    for number, (left, right) in enumerate(spans):
        piece = line.crop((left, 0, right, line.height))
        width = max(1, min(room, round(piece.width * scale)))
        piece = piece.resize((width, max(1, round(size))), Image.Resampling.LANCZOS)
        canvas.paste(piece, (_MARGIN, round(top + number * pitch)))
    return canvas


def _rows(line: Image.Image, height: float, room: float) -> int:
    """Rows that a line takes at a height; a tenth of a row is lost by breaking between words."""
    width = line.width * height / line.height
    return 1 if width <= room else math.ceil(width / (0.9 * room))


def _break(line: Image.Image, width: float) -> list[tuple[int, int]]:
    """Left and right edges of rows of at most a width, broken between words near their ends.

    Args:
        line: The line.
        width: Greatest width of a row in pixels of the line.
    """
    grey = np.asarray(line.convert("L")).astype(np.int16)
    ink = (float(np.median(grey)) - grey > 48).sum(axis=0)
    spans: list[tuple[int, int]] = []
    left = 0
    while line.width - left > width:
        first = left + max(1, int(width * _EARLIEST))
        last = left + max(1, int(width))
        at = _last_gap(ink[first:last]) + first if last > first else last
        spans.append((left, at))
        left = at
    return [*spans, (left, line.width)]


def _last_gap(ink: np.ndarray[tuple[int, ...], np.dtype[np.int64]]) -> int:
    """The middle of the last gap that is nearly as wide as the widest: one between words."""
    is_least = np.concatenate([[0], (ink == ink.min()).astype(np.int8), [0]])
    changes = np.diff(is_least)
    starts, ends = np.nonzero(changes == 1)[0], np.nonzero(changes == -1)[0]
    widths = ends - starts
    last = int(np.nonzero(widths >= _NEARLY * widths.max())[0][-1])
    return int(starts[last] + ends[last]) // 2
