"""Scores of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from langchain_internvl.grounding import Box

Corners = Sequence[float]
"""left, top, right, bottom, in any unit."""


def acc_at_iou(box: Box | Corners | None, target: Box | Corners, threshold: float = 0.5) -> bool:
    """Whether a box is correct at an intersection over union (RefCOCO's Acc@0.5).

    Args:
        box: Predicted box, as a `Box` or as left, top, right, bottom; None: no box was predicted.
        target: Reference box, in the same unit and on the same image.
        threshold: Least intersection over union.

    Raises:
        TypeError: Only one of the two is a `Box`.
        ValueError: A box does not have four coordinates, or one is not a number.
    """
    if box is None:
        return False
    if isinstance(box, Box) and isinstance(target, Box):
        return box.iou(target) >= threshold
    if isinstance(box, Box) or isinstance(target, Box):
        raise TypeError("give both boxes as Box or both as coordinates of one unit")
    return _iou(box, target) >= threshold


def _iou(one: Corners, other: Corners) -> float:
    for corners in (one, other):
        if len(corners) != 4 or any(map(isnan, corners)):
            raise ValueError(f"a box is left, top, right, bottom, not {list(corners)}")
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, wide) * max(0.0, high)
    either = _area(one) + _area(other) - both
    # Boxes without area match only if they are equal.
    return both / either if either else float(list(one) == list(other))


def _area(corners: Corners) -> float:
    return (corners[2] - corners[0]) * (corners[3] - corners[1])
