"""Small skew of a scanned page: the angle at which its lines of text are level.

The method is the projection profile: rows of ink, summed along a direction, vary most when the
direction is that of the lines (W. Postl, US patent 4,723,297, expired).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from PIL import Image

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


def find_skew(page: Image.Image) -> float:
    """The angle of a page's lines, in degrees, counter-clockwise; 0.0 if they are level.

    Args:
        page: The page, in mode RGB.

    Returns:
        An angle from -8 to 8 in steps of a quarter; also 0.0 if no angle can be determined: too
        little ink, or an image without lines.
    """
    small = page.convert("L")
    small.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    grey = np.asarray(small).astype(np.int16)
    ink = (grey < np.median(grey) - _INK).astype(np.float32)
    if not 0.002 < ink.mean() < 0.4 or min(ink.shape) < 2 * _STRIPS:
        return 0.0
    # Ink per row of each vertical strip: shifting the strips approximates a rotation.
    edges = np.linspace(0, ink.shape[1], _STRIPS + 1).astype(int)
    strips = [ink[:, a:b].sum(axis=1) for a, b in pairwise(edges)]
    centres = (edges[:-1] + edges[1:]) / 2 - ink.shape[1] / 2
    angles = np.arange(-_MOST, _MOST + _STEP, _STEP)
    scores = [_score(strips, centres, angle) for angle in angles]
    best = int(np.argmax(scores))
    level = scores[len(angles) // 2]
    angle = float(angles[best])
    is_clear = scores[best] >= max(_GAIN * level, _PEAK * float(np.median(scores)))
    if abs(angle) < _LEAST or abs(angle) > _MOST - _STEP or not is_clear:
        return 0.0
    return angle


def _score(
    strips: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]],
    centres: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
    angle: float,
) -> float:
    """How much the sum of rows differs from one row to the next, at an angle in degrees."""
    slope = np.tan(np.radians(angle))
    rows = sum(
        np.roll(strip, round(slope * centre)) for strip, centre in zip(strips, centres, strict=True)
    )
    return float((np.diff(rows) ** 2).sum())


def level(page: Image.Image, angle: float) -> Image.Image:
    """A page turned back by the angle of its lines; new corners are white.

    The turned page is shrunk to the width and height of the page, so that it needs no more tiles.

    Args:
        page: The page, in mode RGB.
        angle: The angle of its lines, in degrees, counter-clockwise; see `find_skew`.
    """
    if angle == 0:
        return page
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    width = page.width * cosine + page.height * abs(sine)
    height = page.height * cosine + page.width * abs(sine)
    scale = min(page.width / width, page.height / height)
    size = round(width * scale), round(height * scale)
    # From a pixel of the result to its place on the page: both turn about their centres.
    a, b = cosine / scale, sine / scale
    left = page.width / 2 - a * size[0] / 2 - b * size[1] / 2
    top = page.height / 2 + b * size[0] / 2 - a * size[1] / 2
    return page.transform(
        size,
        Image.Transform.AFFINE,
        (a, b, left, -b, a, top),
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )
