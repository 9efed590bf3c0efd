"""Statistics of 8-bit samples from histograms: ten times as fast as sorting millions of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

Grey: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"
"""Samples of an image in mode L, of shape [height, width]."""


def median_of_counts(counts: Sequence[int] | np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """The median of whole numbers from 0, as `numpy.median` gives it.

    Args:
        counts: How often each number occurs, such as `PIL.Image.Image.histogram` of a grey image;
            at least one occurs.
    """
    upto = np.cumsum(counts)
    total = int(upto[-1])
    low, high = np.searchsorted(upto, [(total - 1) // 2, total // 2], side="right")
    return (int(low) + int(high)) / 2


def grain(around: Grey, darkest: Grey) -> float:
    """Standard deviation of the paper's grain, from a sixteenth of the pixels, in 8-bit levels.

    Args:
        around: Brightness of the paper at each pixel.
        darkest: The page, of the same shape.
    """
    below = around[::4, ::4].astype(np.int16) - darkest[::4, ::4]
    counts = np.bincount(below.ravel() + 255, minlength=511)  # of -255 to 255
    twice = round(2 * median_of_counts(counts))  # a median of whole numbers may be a half
    deviations = np.abs(2 * np.arange(511) - twice)
    spread = median_of_counts(np.bincount(deviations, weights=counts)) / 2
    return 1.4826 * spread  # of a normal distribution
