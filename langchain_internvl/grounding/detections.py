"""Boxes as `Detections` of the package supervision, for its annotators and metrics."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from langchain_internvl.grounding.box import Box, Size

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMES = "class_name"
"""Key of class names in `Detections.data`, read by supervision's annotators."""


def boxes_to_supervision(boxes: Sequence[Box], size: Size | None = None) -> Any:
    """Boxes as supervision's `Detections`.

    Args:
        boxes: Boxes on one image.
        size: Width and height of the image in pixels; None: `Box.size` of each box.

    Returns:
        `Detections` with `xyxy` in pixels (float32 [boxes, 4]), `class_id` (the same for the same
        label, from 0 in the order of the boxes), `data["class_name"]` (labels; "" for none), and
        `confidence` if a box has one (NaN for those without).

    Raises:
        ImportError: supervision is not installed.
        ValueError: A box has no `size`, and none is given.
    """
    detections = _supervision().Detections
    if not boxes:
        return detections.empty()
    import numpy as np  # noqa: PLC0415 - at first use

    sized = [box if size is None else box.model_copy(update={"size": size}) for box in boxes]
    labels = [box.label or "" for box in boxes]
    known = list(dict.fromkeys(labels))
    sure = [float("nan") if box.confidence is None else box.confidence for box in boxes]
    has_confidence = any(box.confidence is not None for box in boxes)
    return detections(
        xyxy=np.array([box.corners("pixel") for box in sized], np.float32),
        class_id=np.array([known.index(one) for one in labels]),
        confidence=np.array(sure, np.float32) if has_confidence else None,
        data={_NAMES: np.array(labels)},
    )


def boxes_from_supervision(detections: Any, size: Size) -> list[Box]:
    """Boxes of supervision's `Detections`, for which supervision need not be installed.

    Args:
        detections: `Detections` on one image. Boxes that extend beyond the image are clipped,
            which `Box.repairs` reports.
        size: Width and height of the image in pixels.

    Returns:
        One box for each detection, in order, with the label of `data["class_name"]` if present.

    Raises:
        ValueError: A box is outside the image, or its corners are in the wrong order.
    """
    names = detections.data.get(_NAMES)
    sure: NDArray[np.float32] | None = detections.confidence
    boxes = []
    for place, corners in enumerate(detections.xyxy.tolist()):
        limits = (*size, *size)
        inside = [min(max(one, 0.0), most) for one, most in zip(corners, limits, strict=True)]
        if inside[0] == inside[2] or inside[1] == inside[3]:
            raise ValueError(f"detection {place}: {corners} has no area within {size}")
        label = None if names is None else str(names[place]) or None
        box = Box.from_space(inside, "pixel", size, label)
        about: dict[str, Any] = {}
        if inside != corners:
            about["repairs"] = ("reached out of the picture and was cut off at its edge",)
        if sure is not None and sure[place] == sure[place]:
            about["confidence"] = float(sure[place])
        boxes.append(box.model_copy(update=about))
    return boxes


def _supervision() -> Any:
    try:
        return importlib.import_module("supervision")
    except ImportError as error:
        raise ImportError(
            "supervision is needed here and is not installed: pip install supervision"
        ) from error
