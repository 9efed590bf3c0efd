"""The order in which boxes of text are read: columns, and rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Edges: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom edge."""


def in_columns(boxes: Sequence[Edges]) -> list[Edges]:
    """Boxes in reading order: each column from the top, the columns from the left.

    A set of boxes is cut where no box is in the way: between columns, and if there are none at the
    highest gap, for which a heading lies above its columns (recursive X-Y cut, Nagy and Seth 1984).

    Args:
        boxes: Boxes of lines, in any order.
    """
    ordered: list[Edges] = []
    todo = [sorted(boxes, key=lambda box: (box[1], box[0]))]
    while todo:
        some = todo.pop()
        if len(some) < 2:
            ordered += some
            continue
        columns = _columns(some)
        if len(columns) > 1:
            todo += reversed(columns)
            continue
        at = _highest_gap(some)
        if at is None:
            ordered += some
        else:
            todo += [some[at:], some[:at]]
    return ordered


def in_rows(boxes: Sequence[Edges]) -> list[int]:
    """Indices of boxes by rows: from the top, and from the left in each row, as in a table.

    Args:
        boxes: Boxes of lines, in any order.
    """
    rows: list[list[int]] = []
    for index in sorted(range(len(boxes)), key=lambda one: boxes[one][1]):
        if rows and is_level(boxes[rows[-1][0]], boxes[index]):
            rows[-1].append(index)
        else:
            rows.append([index])
    return [index for row in rows for index in sorted(row, key=lambda one: boxes[one][0])]


def is_level(one: Edges, other: Edges) -> bool:
    """Whether half of the lower box is level with the other."""
    shared = min(one[3], other[3]) - max(one[1], other[1])
    return 2 * shared >= min(one[3] - one[1], other[3] - other[1])


def is_inside(one: Edges, other: Edges) -> bool:
    """Whether a box lies within another."""
    return other[0] <= one[0] and other[1] <= one[1] and one[2] <= other[2] and one[3] <= other[3]


def _columns(boxes: list[Edges]) -> list[list[Edges]]:
    """Groups with a gap between them from top to bottom, from the left."""
    groups: list[list[Edges]] = []
    end = 0
    for box in sorted(boxes, key=lambda one: one[0]):
        if groups and box[0] < end:
            groups[-1].append(box)
        else:
            groups.append([box])
        end = max(end, box[2])
    return [sorted(group, key=lambda box: (box[1], box[0])) for group in groups]


def _highest_gap(boxes: list[Edges]) -> int | None:
    """Index of the box below the highest gap from left to right; None: there is none."""
    best, at = 0, None
    end = boxes[0][3]
    for index, box in enumerate(boxes[1:], 1):
        gap = box[1] - end
        if gap >= 0 and (at is None or gap > best):
            best, at = gap, index
        end = max(end, box[3])
    return at
