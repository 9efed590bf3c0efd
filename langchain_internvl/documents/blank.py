"""Detects blank pages from their pixels: a model may invent text for a blank page."""

from __future__ import annotations

import numpy as np
from PIL import Image

_LEAST_SIDE = 64
"""Images smaller than this, in pixels, are icons or crops, not pages: they are never blank."""
_WORK_SIDE = 1792
"""Longer side, in pixels, of the image that is analysed; lines thinner than one pixel count."""
_EDGE = 0.03
"""Share of each side that is ignored: scanners leave shadows at the edges."""
_CONTRAST = 36
"""Least contrast of ink to its surroundings, in 8-bit levels."""
_GRAIN = 6
"""Least contrast of ink, in standard deviations of the paper's grain."""
_PAPER = 140
"""Least brightness of paper."""
_COLOUR = 60
"""Largest difference of the channels of paper: a coloured image is not paper."""
_LEAST_INK = 8
"""Pixels of ink, at `_WORK_SIDE`, below which a page is blank: a digit at 7 pt has more."""


def is_blank(page: Image.Image) -> bool:
    """Whether a page is empty paper.

    Uneven light, a coloured tint of the paper, shadows at the edges and the grain of the scanner
    are not ink; a single word, or a hair line, is.

    Args:
        page: The page, in mode RGB.
    """
    if min(page.size) < _LEAST_SIDE:
        return False
    small = page.copy()
    small.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    samples = np.asarray(small.convert("RGB")).astype(np.int16)
    height, width = samples.shape[:2]
    top, left = round(height * _EDGE), round(width * _EDGE)
    samples = samples[top : height - top, left : width - left]
    typical = np.median(samples[::4, ::4].reshape(-1, 3), axis=0)
    if typical.min() < _PAPER or typical.max() - typical.min() > _COLOUR:
        return False
    return _ink(samples) < _LEAST_INK


def _ink(samples: np.ndarray[tuple[int, ...], np.dtype[np.int16]]) -> int:
    """Number of pixels that are darker, or of another colour, than the paper around them."""
    size = samples.shape[1], samples.shape[0]
    darkest = samples.min(axis=2).astype(np.uint8)
    # The paper's own brightness, block by block: light that changes slowly is not ink.
    blocks = (max(1, size[0] // 32), max(1, size[1] // 32))
    paper = Image.fromarray(darkest).resize(blocks, Image.Resampling.BOX)
    around = np.asarray(paper.resize(size, Image.Resampling.BILINEAR)).astype(np.int16)
    below = around - darkest.astype(np.int16)
    middle = np.median(below[::4, ::4])
    grain = 1.4826 * float(np.median(np.abs(below[::4, ::4] - middle)))  # of a normal distribution
    is_ink = below > max(_CONTRAST, _GRAIN * grain)
    # Grain is single pixels; strokes have neighbours.
    neighbours = np.zeros(is_ink.shape, np.uint8)
    neighbours[1:] += is_ink[:-1]
    neighbours[:-1] += is_ink[1:]
    neighbours[:, 1:] += is_ink[:, :-1]
    neighbours[:, :-1] += is_ink[:, 1:]
    return int((is_ink & (neighbours > 0)).sum())
