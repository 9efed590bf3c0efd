"""Ink of a page: its pixels, whatever the colour of the paper, without rules and dark boxes."""

from __future__ import annotations

import functools
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from langchain_internvl.documents.ink_shapes import Shapes, find_shapes, runs_of
from langchain_internvl.documents.levels import Grey, grain, median_of_counts

Mask: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"
"""Whether each pixel is ink, of shape [height, width]."""

Counts: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.int64]]"
"""How often each of the 256 levels occurs."""

_TAIL = 0.0005
"""Share of the pixels beyond the levels that count as the darkest and the lightest."""
_MUCH = 0.25
"""Share of light pixels, and of dark ones, from which either may be the paper."""
_BLOCK = 32
"""Side, in pixels, of the blocks whose lightest pixel is their paper."""
_CONTRAST = 36
"""Least contrast of ink to the paper around it, in 8-bit levels."""
_GRAIN = 4
"""Least contrast of ink, in standard deviations of the paper's grain."""
_MOST_GRAIN = 12
"""Standard deviation of grain, in 8-bit levels, from which it is smoothed: letters in more grain
fall to pieces."""
_SHARE = 0.25
"""Least contrast of ink, as a share of that of the page's darkest ink."""
_LONG = 8
"""Length of a rule, in heights of a letter; strokes of letters are shorter."""
_SHORTEST = 64
"""Shortest rule in pixels."""
_RIM = 2
"""Pixels at the edges of a dark box that are neither it nor the paper."""
_LEAST_BOX = 12
"""Least height of a dark box in pixels."""
_EDGE = 0.8
"""Least share of ink in the upper and lower rows of a dark box with light letters."""


class DarkBox(NamedTuple):
    """A box that is darker than the paper.

    Attributes:
        edges: Left, top, right and bottom edge in pixels.
        is_light: Whether the ink in it is lighter than the box.
    """

    edges: tuple[int, int, int, int]
    is_light: bool


class Ink(NamedTuple):
    """The ink of a page.

    Attributes:
        mask: Whether each pixel is ink.
        boxes: Dark boxes and shaded cells that have ink of their own.
        shapes: The connected shapes of the mask.
    """

    mask: Mask
    boxes: list[DarkBox]
    shapes: Shapes


def polarities(page: Image.Image) -> tuple[bool, ...]:
    """Whether the ink of a page may be lighter than its paper.

    Args:
        page: The page.

    Returns:
        False: dark on light; True: light on dark; both where much of the page is dark and much is
        light, as that of a page with a large photograph.
    """
    counts = max((np.array(one.histogram()) for one in page.convert("RGB").split()), key=_spread)
    share = counts[128:].sum() / counts.sum()
    return (False, True) if _MUCH < share < 1 - _MUCH else (_is_light(counts),)


def _tails(counts: Counts) -> tuple[int, int]:
    """The levels of a histogram beyond which few pixels are."""
    upto = np.cumsum(counts) / counts.sum()
    return int(np.searchsorted(upto, _TAIL)), int(np.searchsorted(upto, 1 - _TAIL))


def _spread(counts: Counts) -> int:
    """How far the darkest and the lightest levels of a histogram are apart."""
    darkest, lightest = _tails(counts)
    return lightest - darkest


def _is_light(counts: Counts) -> bool:
    """Whether the rarer levels of a histogram, the ink, are above the typical level, the paper."""
    typical = median_of_counts(counts)
    darkest, lightest = _tails(counts)
    below, above = typical - darkest, lightest - typical
    return above > below if abs(above - below) > _CONTRAST / 2 else typical < 128


def darkest_channel(page: Image.Image, paper: tuple[int, ...]) -> Image.Image:
    """The least of a page's channels, relative to the paper: ink of another colour is dark too.

    Args:
        page: The page, in mode RGB, with ink that is darker than the paper.
        paper: The colour of its paper.

    Returns:
        An image in mode L. Channels in which the paper is dark show no ink, and are left out.
    """
    bright = max(paper)
    channels = [
        one.point([min(255, round(value * bright / level)) for value in range(256)])
        for one, level in zip(page.split(), paper, strict=True)
        if level >= bright / 2 and level > 0
    ]
    return functools.reduce(ImageChops.darker, channels) if channels else page.convert("L")


def find_ink(grey: Grey) -> Ink:
    """The ink of a page with dark ink on light paper.

    Letters in a dark box or a shaded cell are ink, and the box is not; rules and the lines of
    tables are not ink. Light that changes slowly and grain are paper; much grain is smoothed.

    Args:
        grey: The page, level.
    """
    if grain(_paper(grey), grey) > _MOST_GRAIN:
        grey = np.asarray(Image.fromarray(grey).filter(ImageFilter.GaussianBlur(1)))
    mask = _contrast(grey)
    shapes = find_shapes(mask)
    height = letter_height(shapes)
    boxes = []
    for left, top, right, bottom in _dark_boxes(mask, shapes, height):
        mask[top:bottom, left:right] = False
        within = slice(top + _RIM, bottom - _RIM), slice(left + _RIM, right - _RIM)
        inside = grey[within]
        is_light = _is_light(np.bincount(inside.ravel(), minlength=256))
        mask[within] = _contrast(255 - inside if is_light else inside)
        boxes.append(DarkBox((left, top, right, bottom), is_light))
    rules = _rules(mask, height)
    if boxes or rules.any():
        mask &= ~rules
        shapes = find_shapes(mask)
    return Ink(mask, boxes, shapes)


def letter_height(shapes: Shapes) -> float:
    """The typical height of a letter in pixels; 0.0: there is none."""
    heights = shapes.heights
    heights = heights[(heights >= 4) & (shapes.areas >= 6)]
    if not len(heights):
        return 0.0
    # By height: specks are many and low, letters are high.
    ordered = np.sort(heights)
    upto = np.cumsum(np.minimum(ordered, 50))
    return float(ordered[np.searchsorted(upto, upto[-1] / 2)])


def _contrast(grey: Grey) -> Mask:
    """Pixels that are darker than the paper around them."""
    paper = _paper(grey)
    below = paper - np.minimum(paper, grey)
    offset = median_of_counts(np.bincount(below.ravel(), minlength=256))
    level = offset + max(_CONTRAST, _GRAIN * grain(paper, grey))
    strong = below[below > level]
    if len(strong):
        level = max(level, offset + _SHARE * (float(np.percentile(strong, 90)) - offset))
    mask: Mask = below > level
    return mask


def _paper(grey: Grey) -> Grey:
    """Brightness of the paper at each pixel: the lightest nearby, of means of 2 x 2 pixels."""
    height, width = grey.shape
    smooth = Image.fromarray(grey).resize(
        (max(1, width // 2), max(1, height // 2)), Image.Resampling.BOX
    )
    values = np.asarray(smooth)
    side = _BLOCK // 2
    down, across = (-(-length // side) for length in values.shape)
    padded = np.pad(
        values, ((0, down * side - values.shape[0]), (0, across * side - values.shape[1])), "edge"
    )
    lightest = padded.reshape(down, side, across, side).max(axis=(1, 3))
    around = np.pad(lightest, 1, "edge")
    windows = np.lib.stride_tricks.sliding_window_view(around, (3, 3))
    blocks = Image.fromarray(windows.max(axis=(2, 3)))
    return np.asarray(blocks.resize((width, height), Image.Resampling.BILINEAR))


def _dark_boxes(mask: Mask, shapes: Shapes, height: float) -> list[tuple[int, int, int, int]]:
    """Boxes of ink that are larger than letters, with straight upper and lower edges."""
    found = []
    large = (
        (shapes.heights >= max(1.3 * height, _LEAST_BOX))
        & (shapes.widths >= 3 * height)
        & (shapes.areas >= 0.5 * shapes.heights * shapes.widths)
    )
    for left, top, right, bottom in shapes.boxes[large].tolist():
        inset = min(2, (bottom - top) // 4)
        rows = mask[[top + inset, bottom - 1 - inset], left:right]
        if rows.mean(axis=1).min() >= _EDGE:
            found.append((left, top, right, bottom))
    return found


def _rules(mask: Mask, height: float) -> Mask:
    """Pixels of long thin lines, across or down."""
    long, thick = max(_SHORTEST, round(_LONG * height)), max(6, round(0.7 * height))
    turned = np.ascontiguousarray(mask.T)
    across, down = _in_runs(mask, long), _in_runs(turned, long).T
    wide, high = _in_runs(mask, thick), _in_runs(turned, thick).T
    rules: Mask = (across & ~high) | (down & ~wide) | (across & down)
    return rules


def _in_runs(mask: Mask, least: int) -> Mask:
    """Pixels in horizontal runs of at least so many pixels."""
    row, start, end = runs_of(mask)
    chosen = end - start >= least
    steps = np.zeros((mask.shape[0], mask.shape[1] + 1), np.int8)
    steps[row[chosen], start[chosen]] = 1
    steps[row[chosen], end[chosen]] = -1  # runs do not touch, so no pixel is both
    inside: Mask = np.cumsum(steps, axis=1, dtype=np.int8)[:, :-1] > 0
    return inside
