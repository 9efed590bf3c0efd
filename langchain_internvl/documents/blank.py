"""Detects blank pages from their pixels: a model may invent text for a blank page."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from langchain_internvl.documents.faint_lines import has_faint_lines
from langchain_internvl.documents.levels import grain, median_of_counts

_LEAST_SIDE = 64
"""Images smaller than this, in pixels, are icons or crops, not pages: they are never blank."""
_WORK_SIDE = 1792
"""Longer side, in pixels, of the image that is analysed; lines thinner than one pixel count."""
_EDGE = 0.03
"""Share of each side that is ignored: scanners leave shadows at the edges."""
_CONTRAST = 36
"""Least contrast of ink to its surroundings, in 8-bit levels."""
_FAINT_CONTRAST = 50
"""The same for lines that are fainter than the grain: where grain is cut off at white, soft folds
of 25 to 35 levels have grain of their own, as ink of 33 to 46 levels does; a line of 75 has 61."""
_PAPER = 140
"""Least brightness of paper."""
_COLOUR = 60
"""Largest difference of the channels of paper: a coloured image is not paper."""


class _Scale(NamedTuple):
    """How ink is told from grain on means of some pixels.

    Attributes:
        side: Side of the squares whose means are compared, in pixels at `_WORK_SIDE`.
        grain: Least contrast of ink, in standard deviations of the means of paper.
        margin: Likewise, beyond `_CONTRAST`: grain lifts parts of a faint fold over it.
        least: Number of squares of ink below which a page is blank.
    """

    side: int
    grain: float
    margin: float
    least: int


_SCALES = (_Scale(1, 6, 0, 8), _Scale(2, 4, 1, 24), _Scale(4, 4, 1, 8))
"""From fine to coarse. Means of more pixels have less grain, so that ink of less contrast stands
out, if it is large; a digit at 7 pt on smooth paper has more than 8 pixels. Drawn blank pages, with
seven kinds of grain of a standard deviation of 12 to 60 levels, before and after JPEG of quality
40, have at most 12, 15 and 0 squares of ink: those of heavy tails are read.
"""


def is_blank(page: Image.Image) -> bool:
    """Whether a page is empty paper.

    Uneven light, a coloured tint of the paper, shadows at the edges and the grain of the scanner
    are not ink; a single word, or a hair line, is. In grain of a standard deviation of 40 levels,
    lines of text at 10 pt are found down to a contrast of 65 levels, in blurred grain of 75.

    Args:
        page: The page, in mode RGB.
    """
    if min(page.size) < _LEAST_SIDE:
        return False
    small = _shrunk(page).convert("RGB")
    left, top = round(small.width * _EDGE), round(small.height * _EDGE)
    red, green, blue = small.crop((left, top, small.width - left, small.height - top)).split()
    samples = [np.asarray(channel)[::4, ::4].ravel() for channel in (red, green, blue)]
    typical = [median_of_counts(np.bincount(one)) for one in samples]
    if min(typical) < _PAPER or max(typical) - min(typical) > _COLOUR:
        return False
    darkest = ImageChops.darker(ImageChops.darker(red, green), blue)
    # The paper's own brightness, block by block: light that changes slowly is not ink.
    blocks = (max(1, darkest.width // 32), max(1, darkest.height // 32))
    paper = darkest.resize(blocks, Image.Resampling.BOX)
    for scale in _SCALES:
        means = darkest if scale.side == 1 else darkest.reduce(scale.side)
        around = paper.resize(means.size, Image.Resampling.BILINEAR)
        deviation = grain(np.asarray(around), np.asarray(means))
        hidden = scale.grain * deviation
        level = max(_CONTRAST + scale.margin * deviation, hidden)
        if _ink(means, around, level) >= scale.least:
            return False
        if hidden <= _CONTRAST:  # the grain hides no ink
            return True
    return not has_faint_lines(np.asarray(darkest), _FAINT_CONTRAST)


def _shrunk(page: Image.Image) -> Image.Image:
    """The page itself, or a smaller copy of a page that is larger than `_WORK_SIDE`."""
    if max(page.size) <= _WORK_SIDE:
        return page
    small = page.copy()
    small.thumbnail((_WORK_SIDE, _WORK_SIDE), Image.Resampling.BOX)
    return small


def _ink(darkest: Image.Image, around: Image.Image, level: float) -> int:
    """Number of pixels that are darker, or of another colour, than the paper around them.

    Args:
        darkest: The least of the three channels, in mode L. Pillow and NumPy work on its bytes:
            16-bit differences of a whole A4 page take five times as long.
        around: Brightness of the paper at each pixel, in mode L.
        level: Least contrast of ink, in 8-bit levels.
    """
    below = np.asarray(ImageChops.subtract(around, darkest))  # 0 where the pixel is lighter
    is_ink = below > int(level)
    # Grain is single pixels; strokes have neighbours.
    has_neighbour = np.zeros(is_ink.shape, bool)
    has_neighbour[1:] |= is_ink[:-1]
    has_neighbour[:-1] |= is_ink[1:]
    has_neighbour[:, 1:] |= is_ink[:, :-1]
    has_neighbour[:, :-1] |= is_ink[:, 1:]
    return int(np.count_nonzero(is_ink & has_neighbour))
