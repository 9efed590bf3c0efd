"""Scores of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from langchain_internvl.grounding import Box
from langchain_internvl.grounding.box import intersection_over_union

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
    for corners in (box, target):
        if len(corners) != 4 or any(map(isnan, corners)):
            raise ValueError(f"a box is left, top, right, bottom, not {list(corners)}")
    return intersection_over_union(box, target) >= threshold
