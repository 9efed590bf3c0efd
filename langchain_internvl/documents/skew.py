"""Small skew of a scanned page: the angle at which its lines of text are level.

The method is the projection profile: rows of ink, summed along a direction, vary most when the
direction is that of the lines (W. Postl, US patent 4,723,297, expired).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from langchain_internvl.documents.levels import median_of_counts

_MOST = 8.0
"""Largest angle that is detected, in degrees."""
_STEP = 0.25
_LEAST = 0.5
"""Smaller angles, in degrees, are not corrected: models read such pages."""
_GAIN = 1.15
"""Least ratio of the profile's variation at the angle to that at 0 degrees."""
_PEAK = 1.5
"""Least ratio of the profile's variation to that at most angles: noise varies alike at all."""
_STRIPS = 24
_WORK_SIDE = 800
_INK = 40
"""Least contrast of ink to paper, in 8-bit levels."""


def find_skew(page: Image.Image, least: float = _LEAST) -> float:
    """The angle of a page's lines, in degrees, counter-clockwise; 0.0 if they are level.

    Args:
        page: The page, in mode RGB.
        least: Smaller angles, in degrees, count as level.

    Returns:
        An angle from -8 to 8 in steps of a quarter; also 0.0 if no angle can be determined: too
        little ink, or an image without lines.
    """
    small = page.convert("L")
    small.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    if min(small.size) < 2 * _STRIPS:
        return 0.0
    darkest_paper = math.ceil(median_of_counts(small.histogram()) - _INK)
    ink = np.asarray(small) < max(0, darkest_paper)
    if not 0.002 < np.count_nonzero(ink) / ink.size < 0.4:
        return 0.0
    # Ink per row of each vertical strip: shifting the strips approximates a rotation.
    edges = np.linspace(0, ink.shape[1], _STRIPS + 1).astype(int)
    strips = [ink[:, a:b].sum(axis=1, dtype=np.float32) for a, b in pairwise(edges)]
    centres = (edges[:-1] + edges[1:]) / 2 - ink.shape[1] / 2
    angles = np.arange(-_MOST, _MOST + _STEP, _STEP)
    scores = _scores(strips, centres, angles)
    best = int(np.argmax(scores))
    level = scores[len(angles) // 2]
    angle = float(angles[best])
    is_clear = scores[best] >= max(_GAIN * level, _PEAK * float(np.median(scores)))
    if abs(angle) < least or abs(angle) > _MOST - _STEP or not is_clear:
        return 0.0
    return angle


def _scores(
    strips: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
    centres: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    angles: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """How much the sum of rows differs from one row to the next, at each angle in degrees.

    One step for each strip, with all angles at once: 24 calls of NumPy instead of 1,560, each of
    which would hold the GIL against the threads that compute.
    """
    height = len(strips[0])
    shifts = np.rint(np.outer(centres, np.tan(np.radians(angles)))).astype(int)  # [strips, angles]
    rows = np.zeros((len(angles), height), np.float32)
    twice = np.concatenate([strips, strips], axis=1)
    # Row k of a strip's window is the strip, rolled up by k.
    for windows, shift in zip(sliding_window_view(twice, height, axis=1), shifts, strict=True):
        rows += windows[-shift % height]
    steps = np.diff(rows, axis=1)
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float64]] = np.einsum(
        "ar,ar->a", steps, steps, dtype=np.float64
    )
    return scores


def level(page: Image.Image, angle: float, fill: str | tuple[int, ...] = "white") -> Image.Image:
    """A page turned back by the angle of its lines.

    The turned page is shrunk to the width and height of the page, so that it needs no more tiles.

    Args:
        page: The page, in mode RGB.
        angle: The angle of its lines, in degrees, counter-clockwise; see `find_skew`.
        fill: Colour of the new corners.
    """
    if angle == 0:
        return page
    size, matrix = _turning(page.size, angle)
    return page.transform(
        size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=fill
    )


def unlevel(
    box: tuple[float, float, float, float], size: tuple[int, int], angle: float
) -> tuple[float, float, float, float]:
    """The smallest upright box on a page around a box on the levelled page.

    Args:
        box: Left, top, right and bottom edge on what `level` returns, in pixels.
        size: Width and height of the page in pixels.
        angle: The angle that was given to `level`.

    Returns:
        Left, top, right and bottom edge in pixels of the page, within the page.
    """
    left, top, right, bottom = box
    if angle:
        a, b, x0, c, d, y0 = _turning(size, angle)[1]
        corners = [(x, y) for x in (left, right) for y in (top, bottom)]
        across = [a * x + b * y + x0 for x, y in corners]
        down = [c * x + d * y + y0 for x, y in corners]
        left, top, right, bottom = min(across), min(down), max(across), max(down)
    width, height = size
    return max(0, left), max(0, top), min(width, right), min(height, bottom)


def levelled_size(size: tuple[int, int], angle: float) -> tuple[int, int]:
    """Width and height of what `level` returns for a page of a size, in pixels."""
    return size if angle == 0 else _turning(size, angle)[0]


def _turning(
    size: tuple[int, int], angle: float
) -> tuple[tuple[int, int], tuple[float, float, float, float, float, float]]:
    """Size of the levelled page, and the matrix from its pixels to those of the page."""
    page_width, page_height = size
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    width = page_width * cosine + page_height * abs(sine)
    height = page_height * cosine + page_width * abs(sine)
    scale = min(page_width / width, page_height / height)
    turned = round(width * scale), round(height * scale)
    # From a pixel of the result to its place on the page: both turn about their centres.
    a, b = cosine / scale, sine / scale
    left = page_width / 2 - a * turned[0] / 2 - b * turned[1] / 2
    top = page_height / 2 + b * turned[0] / 2 - a * turned[1] / 2
    return turned, (a, b, left, -b, a, top)
