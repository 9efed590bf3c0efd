"""Connected shapes of a mask: letters, or what of them touches; NumPy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Shapes:
    """Connected shapes (8 neighbours) of a mask.

    Attributes:
        boxes: Left, top, right and bottom edge of each in pixels, of shape [shapes, 4].
        areas: Number of pixels of each.
    """

    boxes: Numbers
    areas: Numbers

    @property
    def widths(self) -> Numbers:
        """Widths in pixels."""
        return self.boxes[:, 2] - self.boxes[:, 0]

    @property
    def heights(self) -> Numbers:
        """Heights in pixels."""
        return self.boxes[:, 3] - self.boxes[:, 1]


def runs_of(mask: NDArray[np.bool_]) -> tuple[Numbers, Numbers, Numbers]:
    """The horizontal runs of a mask, from the top, and from the left in each row.

    Args:
        mask: Whether each pixel belongs, of shape [height, width].

    Returns:
        The row, the first column and the column after the last of each run.
    """
    height, width = mask.shape
    steps = np.zeros((height, width + 2), np.int8)
    steps[:, 1:-1] = mask
    changes = np.diff(steps, axis=1)
    row, start = np.nonzero(changes == 1)
    end = np.nonzero(changes == -1)[1]
    return row, start, end


def find_shapes(mask: NDArray[np.bool_]) -> Shapes:
    """The connected shapes of a mask.

    Args:
        mask: Whether each pixel is ink, of shape [height, width].
    """
    row, start, end = runs_of(mask)
    if not len(row):
        return Shapes(np.zeros((0, 4), np.int64), np.zeros(0, np.int64))
    # Runs are sorted by both keys. A run touches those of the next row that begin before it ends
    # and end after it begins, corners included.
    stride = mask.shape[1] + 1
    starts, ends = row * stride + start, row * stride + end
    first = np.searchsorted(ends, starts + stride, "left")
    count = np.maximum(np.searchsorted(starts, ends + stride, "right") - first, 0)
    upper = np.repeat(np.arange(len(row)), count)
    lower = np.arange(len(upper)) - np.repeat(np.cumsum(count) - count, count) + first[upper]
    number = joined(len(row), upper, lower)
    return Shapes(
        boxes_around(np.stack([start, row, end, row + 1], axis=1), number),
        np.bincount(number, weights=end - start).astype(np.int64),
    )


def joined(count: int, one: NDArray[Any], other: NDArray[Any]) -> Numbers:
    """Numbers of the groups into which links join things.

    Args:
        count: How many things there are.
        one: One end of each link.
        other: Its other end.

    Returns:
        The group of each thing, from 0 without gaps, in the order of their first members.
    """
    root = np.arange(count)
    while True:
        a, b = root[one], root[other]
        differ = a != b
        if not differ.any():
            break
        np.minimum.at(root, np.maximum(a, b)[differ], np.minimum(a, b)[differ])
        while True:
            above = root[root]
            if np.array_equal(above, root):
                break
            root = above
    return np.unique(root, return_inverse=True)[1].reshape(-1)


def boxes_around(boxes: Numbers, number: Numbers) -> Numbers:
    """The boxes around groups of boxes.

    Args:
        boxes: Left, top, right and bottom edges, of shape [boxes, 4].
        number: The group of each, from 0 without gaps.
    """
    groups = int(number.max()) + 1 if len(number) else 0
    around = np.zeros((groups, 4), np.int64)
    around[:, :2] = np.iinfo(np.int64).max
    np.minimum.at(around[:, 0], number, boxes[:, 0])
    np.minimum.at(around[:, 1], number, boxes[:, 1])
    np.maximum.at(around[:, 2], number, boxes[:, 2])
    np.maximum.at(around[:, 3], number, boxes[:, 3])
    return around
