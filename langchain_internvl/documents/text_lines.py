"""Finds the lines of text on a page image from its ink, without a model.

Connected shapes of ink are letters; neighbours of similar height at the same level are one line. As
only neighbours are compared, columns need not be parallel in height, letters of several sizes may
be mixed, and a slope of a degree that levelling left does not matter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from langchain_internvl.documents.blank import is_blank
from langchain_internvl.documents.ink import (
    Ink,
    darkest_channel,
    find_ink,
    letter_height,
    polarities,
)
from langchain_internvl.documents.ink_shapes import boxes_around, joined
from langchain_internvl.documents.levels import median_of_counts
from langchain_internvl.documents.reading_order import in_columns, is_inside
from langchain_internvl.documents.skew import find_skew, level, unlevel

if TYPE_CHECKING:
    from langchain_internvl.documents.ink_shapes import Numbers

_WORK_PIXELS = 4_000_000
"""Most pixels of the image that is analysed: 1,682 x 2,378 of A4, where letters of 6 pt have 12."""
_MOST_SHAPES = 30_000
"""Most shapes that are compared, the highest first: dots of a halftone image are more."""
_SMALLEST = 0.45
"""Least height of a letter, in typical ones; smaller shapes are dots, accents and specks."""
_LARGEST = 15
"""Greatest height of a letter, in typical ones."""
_ALIKE = 2.2
"""Greatest ratio of the heights of letters in a line: of "(" to "x"."""
_LETTER_GAP = 1.0
"""Greatest gap between letters of a line, in heights of the higher one."""
_WORD_GAP = 1.4
"""Greatest gap between parts of a line, in heights of the higher one: less than between columns."""
_SHARED = 0.5
"""Least share of the lower letter's height that is level with the higher one."""
_TALL = 2.5
"""Greatest height of a line of one shape, in typical letters: higher ones are of drawings."""
_LOW = 0.75
"""Least height of a line of one shape, in typical letters."""
_REACH = 0.3
"""How far dots, accents and signs reach above and below a line, in its heights; twice beside it."""
_WITHIN = 0.8
"""Least share of a line within another one that makes it a part of that."""
_LOWEST = 5
"""Least height of a line in pixels of the analysed image."""


@dataclass(frozen=True)
class TextLine:
    """A line of text on a page.

    Attributes:
        box: Left, top, right and bottom edge of its ink on the page, in pixels.
        image: The line, level, dark on light, in mode RGB, with a margin.
    """

    box: tuple[int, int, int, int]
    image: Image.Image


def find_lines(page: Image.Image) -> list[tuple[int, int, int, int]]:
    """The boxes of the lines of text on a page.

    Args:
        page: The page, upright, in mode RGB. The paper may be dark, grey or unevenly lit, and the
            lines skewed by up to 8 degrees. Rules are not ink; cells of a table and parts of a line
            that are far from each other are lines.

    Returns:
        Left, top, right and bottom edge of the ink of each line in pixels, in reading order;
        none for a blank page.
    """
    return [line.box for line in cut_lines(page)]


def cut_lines(page: Image.Image) -> list[TextLine]:
    """The lines of text on a page with their images; see `find_lines`.

    Args:
        page: The page, upright, in mode RGB.
    """
    page = page.convert("RGB")
    if is_blank(page):
        return []
    return max((_lines(page, is_light=one) for one in polarities(page)), key=_area)


def _lines(page: Image.Image, *, is_light: bool) -> list[TextLine]:
    """The lines of a page whose ink is lighter, or darker, than its paper."""
    dark = ImageOps.invert(page) if is_light else page
    paper = tuple(round(median_of_counts(one.histogram())) for one in dark.split())
    angle = find_skew(dark, least=0)
    upright = level(dark, angle, paper)
    scale = min(1.0, math.sqrt(_WORK_PIXELS / (upright.width * upright.height)))
    small = darkest_channel(upright, paper)
    if scale < 1:
        small = small.resize(
            (max(1, round(small.width * scale)), max(1, round(small.height * scale))),
            Image.Resampling.BOX,
        )
    ink = find_ink(np.asarray(small))
    across, down = upright.width / small.width, upright.height / small.height
    lines = []
    for left, top, right, bottom in in_columns(_group(ink)):
        box = left * across, top * down, right * across, bottom * down
        is_inverse = any(
            one.is_light and is_inside((left, top, right, bottom), one.edges) for one in ink.boxes
        )
        placed = unlevel(box, page.size, angle)
        crop = _crop(upright, _rounded(box))
        lines.append(TextLine(_rounded(placed), ImageOps.invert(crop) if is_inverse else crop))
    return lines


def _area(lines: list[TextLine]) -> int:
    return sum((one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) for one in lines)


def _rounded(box: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    left, top, right, bottom = map(round, box)
    return left, top, right, bottom


def _crop(page: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """A line with a margin."""
    left, top, right, bottom = box
    margin = max(2, round(0.15 * (bottom - top)))
    return page.crop(
        (
            max(0, left - 2 * margin), max(0, top - margin),
            min(page.width, right + 2 * margin), min(page.height, bottom + margin),
        )
    )  # fmt: skip


def _group(ink: Ink) -> list[tuple[int, int, int, int]]:
    """Boxes of the lines, in no particular order."""
    height = letter_height(ink.shapes)
    boxes = ink.shapes.boxes[ink.shapes.areas >= 3]
    heights = boxes[:, 3] - boxes[:, 1]
    if height == 0 or not len(boxes):
        return []
    is_letter = (heights >= max(4, _SMALLEST * height)) & (heights <= _LARGEST * height)
    letters, marks = boxes[is_letter], boxes[heights < max(4, _SMALLEST * height)]
    if len(letters) > _MOST_SHAPES:
        kept = np.argsort(letters[:, 1] - letters[:, 3], kind="stable")[:_MOST_SHAPES]
        letters = letters[kept]
    part = _link(letters, _LETTER_GAP)
    parts = boxes_around(letters, part)
    number = _link(parts, _WORD_GAP)
    lines = boxes_around(parts, number)
    heights = lines[:, 3] - lines[:, 1]
    # A single shape may be a letter; a high one is a stroke of a drawing, a low one a speck.
    is_alone = np.bincount(number[part], minlength=len(lines)) < 2
    is_line = heights >= np.maximum(_LOWEST, np.where(is_alone, _LOW, _SMALLEST) * height)
    is_line &= ~(is_alone & (heights > _TALL * height))
    lines = lines[is_line]
    return _without_contained([_with_marks(line, marks) for line in lines])


def _without_contained(
    lines: list[tuple[int, int, int, int]],
) -> list[tuple[int, int, int, int]]:
    """Lines without those within others, such as the dots of large letters."""
    boxes = np.array(lines, np.int64).reshape(-1, 4)
    left, top, right, bottom = boxes.T
    areas = (right - left) * (bottom - top)
    kept = []
    for index, (x1, y1, x2, y2) in enumerate(lines):
        wide = np.maximum(0, np.minimum(right, x2) - np.maximum(left, x1))
        high = np.maximum(0, np.minimum(bottom, y2) - np.maximum(top, y1))
        around = (wide * high >= _WITHIN * areas[index]) & (areas > areas[index])
        if not around.any():
            kept.append(lines[index])
    return kept


def _link(boxes: Numbers, reach: float) -> Numbers:
    """Groups of boxes that are level with each other, of similar height, and near.

    Args:
        boxes: Left, top, right and bottom edges, of shape [boxes, 4].
        reach: Greatest gap, in heights of the higher box of a pair.
    """
    order = np.argsort(boxes[:, 1], kind="stable")
    left, top, right, bottom = boxes[order].T
    heights = bottom - top
    highest = int(heights.max()) if len(heights) else 0
    ends: list[tuple[Numbers, Numbers]] = []
    for first in range(0, len(order), 256):
        part = slice(first, min(first + 256, len(order)))
        # Only boxes that begin above the end of these, and not far above their start, can be level.
        low = int(np.searchsorted(top, top[part].min() - highest, "left"))
        high = int(np.searchsorted(top, bottom[part].max(), "right"))
        near = slice(low, high)
        lower = np.minimum(heights[part, None], heights[None, near])
        higher = np.maximum(heights[part, None], heights[None, near])
        shared = np.minimum(bottom[part, None], bottom[None, near])
        shared = shared - np.maximum(top[part, None], top[None, near])
        gap = np.maximum(left[part, None], left[None, near])
        gap = gap - np.minimum(right[part, None], right[None, near])
        is_linked = (
            (shared >= _SHARED * lower) & (higher <= _ALIKE * lower) & (gap <= reach * higher)
        )
        one, other = np.nonzero(is_linked)
        ends.append((one + first, other + low))
    one = np.concatenate([pair[0] for pair in ends]) if ends else np.zeros(0, np.int64)
    other = np.concatenate([pair[1] for pair in ends]) if ends else np.zeros(0, np.int64)
    number = np.empty(len(order), np.int64)
    number[order] = joined(len(order), one, other)
    return number


def _with_marks(line: Numbers, marks: Numbers) -> tuple[int, int, int, int]:
    """A line with the dots, accents and signs that belong to it."""
    left, top, right, bottom = line.tolist()
    height = bottom - top
    own = marks[
        (marks[:, 0] >= left - 2 * _REACH * height)
        & (marks[:, 2] <= right + 2 * _REACH * height)
        & (marks[:, 1] >= top - _REACH * height)
        & (marks[:, 3] <= bottom + _REACH * height)
    ]
    if len(own):
        left, top = min(left, int(own[:, 0].min())), min(top, int(own[:, 1].min()))
        right, bottom = max(right, int(own[:, 2].max())), max(bottom, int(own[:, 3].max()))
    return left, top, right, bottom
