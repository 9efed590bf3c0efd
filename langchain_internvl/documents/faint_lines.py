"""Finds lines of text that are fainter than the grain of a page, by the statistics of windows.

A window with a part of a line of text is darker than those above and below it, and its levels
differ more, both along its rows and along its columns. In a fold or a shadow along an edge they
differ in one direction at most. For ink of contrast c on a share p of a window, the mean falls by
pc and the variance grows by p(1 - p)c², so that c is the ratio of the two plus the fall.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from langchain_internvl.documents.levels import Grey

_Values: TypeAlias = "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"

_WINDOW = (16, 128)
"""Height and width of a window in pixels: a line at 10 pt has its height, a word its width."""
_ABOVE_AND_BELOW = 15
"""Number of windows, one below the other, whose median is the paper of the one in the middle."""
_LEAST = 5.0
"""Least deviation of a window from the others, in standard deviations. Of 75 drawn blank pages,
with five kinds of grain of 12 to 60 levels, some after JPEG of quality 15 or 40, none has more than
3.5; pages with one line at 10 pt in blurred grain of 40 levels have 5.2 at a contrast of 60 levels
and 8.3 at 80."""


def has_faint_lines(grey: Grey, contrast: float) -> bool:
    """Whether a grainy page has a line of text.

    Args:
        grey: The page, of shape [height, width].
        contrast: Least contrast of ink to the paper, in 8-bit levels.
    """
    height, width = _WINDOW
    if grey.shape[0] < _ABOVE_AND_BELOW * height or grey.shape[1] < width:
        return False
    levels = grey.astype(np.float32)
    return any(_has_line(levels[start:], contrast) for start in (0, height // 2))


def _has_line(levels: _Values, contrast: float) -> bool:
    height, width = _WINDOW
    down, across = levels.shape[0] // height, levels.shape[1] // width
    windows = levels[: down * height, : across * width].reshape(down, height, across, width)
    means = windows.mean(axis=(1, 3))
    squares = (windows**2).mean(axis=(1, 3))
    along_rows = squares - (windows.mean(axis=3) ** 2).mean(axis=1)
    along_columns = squares - (windows.mean(axis=1) ** 2).mean(axis=2)
    fall = _typical(means) - means
    rise = along_rows - _typical(along_rows)
    deviation = np.minimum.reduce(
        [_deviations(fall), _deviations(_growth(along_rows)), _deviations(_growth(along_columns))]
    )
    is_ink = rise + fall**2 >= contrast * fall
    return bool((is_ink & (fall > 0) & (deviation >= _LEAST)).any())


def _typical(values: _Values) -> _Values:
    """The median of the windows above and below each one."""
    margin = _ABOVE_AND_BELOW // 2
    padded = np.pad(values, ((margin, margin), (0, 0)), "reflect")
    columns = np.lib.stride_tricks.sliding_window_view(padded, _ABOVE_AND_BELOW, axis=0)
    typical: _Values = np.median(columns, axis=-1)
    return typical


def _growth(variances: _Values) -> _Values:
    """How much larger a variance is than those above and below, as a logarithm."""
    logarithms: _Values = np.log(variances + 1)
    return logarithms - _typical(logarithms)


def _deviations(values: _Values) -> _Values:
    """Distances from the median, in standard deviations (1.4826 times their median)."""
    distances = values - np.median(values)
    deviations: _Values = distances / (1.4826 * np.median(np.abs(distances)) + 1e-6)
    return deviations
