"""The `Box` class: conversion between coordinate spaces, comparison and scoring.

InternVL writes coordinates as integers from 0 to 1000, relative to width and height of the whole
image (`norm1000`); other models write fractions of 1 (`unit`) or pixels (`pixel`). A `Box` stores
`norm1000` and converts on demand, so the space of a number is never ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field

Space = Literal["norm1000", "unit", "pixel"]
"""Coordinate space: thousandths of the image (0 to 1000), fractions (0 to 1), or pixels."""

Size = tuple[int, int]
"""Width and height in pixels."""


class Box(BaseModel):
    """A rectangle on an image.

    Attributes:
        x1: Left edge, in thousandths of the image's width (0 to 1000).
        y1: Top edge, in thousandths of its height (0 to 1000).
        x2: Right edge, at least `x1`.
        y2: Bottom edge, at least `y1`.
        label: Label of the object; None: not given.
        size: Width and height of the image in pixels; None: unknown.
        confidence: Mean probability of the tokens of the box's digits (0 to 1); None: unknown.
        repairs: Errors in the box as the model wrote it that were corrected.
    """

    model_config = ConfigDict(frozen=True)

    x1: float = Field(ge=0, le=1000)
    y1: float = Field(ge=0, le=1000)
    x2: float = Field(ge=0, le=1000)
    y2: float = Field(ge=0, le=1000)
    label: str | None = None
    size: Size | None = None
    confidence: float | None = Field(default=None, ge=0, le=1)
    repairs: tuple[str, ...] = ()

    def model_post_init(self, _: object, /) -> None:
        """Refuse corners in the wrong order."""
        if self.x1 > self.x2 or self.y1 > self.y2:
            raise ValueError(
                f"({self.x1}, {self.y1}), ({self.x2}, {self.y2}): the first corner is the upper "
                "left one; sort the coordinates first"
            )

    @classmethod
    def from_space(
        cls,
        corners: Sequence[float],
        space: Space,
        size: Size | None = None,
        label: str | None = None,
    ) -> Box:
        """A box from coordinates of any space.

        Args:
            corners: left, top, right, bottom.
            space: Coordinate space of the corners.
            size: Width and height of the image in pixels; required for "pixel".
            label: Label of the object.

        Raises:
            ValueError: The corners are not four numbers, are outside the image or in the wrong
                order, or `size` is missing.
        """
        if len(corners) != 4:
            raise ValueError(f"a box has four coordinates, not {len(corners)}")
        if not all(isinstance(value, Real) for value in corners):
            raise ValueError(f"the coordinates of a box are numbers, not {tuple(corners)!r}")
        across, down = scale_of(space, size)
        # Multiplied first: dividing first does not give exactly 1000 at the edge of every size.
        x1, y1, x2, y2 = (
            value * 1000 / whole for value, whole in zip(corners, (across, down) * 2, strict=True)
        )
        return cls(x1=x1, y1=y1, x2=x2, y2=y2, size=size, label=label)

    def corners(self, space: Space) -> tuple[float, float, float, float]:
        """left, top, right, bottom in a coordinate space.

        Raises:
            ValueError: The space is "pixel", and the size of the image is unknown.
        """
        across, down = scale_of(space, self.size)
        return (
            self.x1 * across / 1000,
            self.y1 * down / 1000,
            self.x2 * across / 1000,
            self.y2 * down / 1000,
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def pixels(self) -> tuple[int, int, int, int] | None:
        """left, top, right, bottom in pixels, rounded; None: the size of the image is unknown."""
        if self.size is None:
            return None
        left, top, right, bottom = (round(value) for value in self.corners("pixel"))
        return left, top, right, bottom

    @property
    def thousandths(self) -> tuple[int, int, int, int]:
        """left, top, right, bottom as integers from 0 to 1000, InternVL's format."""
        return round(self.x1), round(self.y1), round(self.x2), round(self.y2)

    @property
    def area(self) -> float:
        """Area in millionths of the image."""
        return (self.x2 - self.x1) * (self.y2 - self.y1)

    def iou(self, other: Box) -> float:
        """Intersection over union with another box on the same image, 0 to 1."""
        return intersection_over_union(
            (self.x1, self.y1, self.x2, self.y2), (other.x1, other.y1, other.x2, other.y2)
        )

    def within(self, region: Box) -> Box:
        """Map this box from a crop to the whole image.

        Args:
            region: Position of the crop on the whole image.
        """
        wide, high = region.x2 - region.x1, region.y2 - region.y1
        place = {
            "x1": region.x1 + self.x1 * wide / 1000,
            "y1": region.y1 + self.y1 * high / 1000,
            "x2": region.x1 + self.x2 * wide / 1000,
            "y2": region.y1 + self.y2 * high / 1000,
        }
        inside = {key: min(1000.0, value) for key, value in place.items()}
        return self.model_copy(update={**inside, "size": region.size})

    def markup(self) -> str:
        """The box as InternVL writes it: `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>`."""
        label = "" if self.label is None else f"<ref>{self.label}</ref>"
        return f"{label}<box>[{list(self.thousandths)}]</box>"


def intersection_over_union(one: Sequence[float], other: Sequence[float]) -> float:
    """Intersection over union of two rectangles, 0 to 1; 1 for equal ones without area.

    Args:
        one: left, top, right, bottom, in any unit.
        other: The same of the other, in the same unit.
    """
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    both = max(0.0, wide) * max(0.0, high)
    areas = ((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    either = sum(areas) - both
    return both / either if either > 0 else float(tuple(one) == tuple(other))


def scale_of(space: Space, size: Size | None) -> tuple[float, float]:
    """Width and height of a whole image in a coordinate space.

    Raises:
        ValueError: The space is unknown, or it is "pixel" and `size` is None.
    """
    if space == "norm1000":
        return 1000, 1000
    if space == "unit":
        return 1, 1
    if space != "pixel":
        raise ValueError(f"space is {space!r}; give 'norm1000', 'unit' or 'pixel'")
    if size is None or min(size) < 1:
        raise ValueError("for pixels give size=(width, height) of the picture")
    return size


def accuracy(found: Sequence[Box | None], truth: Sequence[Box], threshold: float = 0.5) -> float:
    """Acc@threshold of RefCOCO: the fraction of predicted boxes that overlap enough with the truth.

    Args:
        found: The predicted box of each phrase; None: none was found.
        truth: The true boxes, in the same order.
        threshold: Minimum intersection over union.

    Raises:
        ValueError: The lists are empty, or their lengths differ.
    """
    if not truth or len(found) != len(truth):
        raise ValueError(f"{len(found)} boxes found of {len(truth)}: give one (or None) for each")
    hits = [
        one is not None and one.iou(right) >= threshold
        for one, right in zip(found, truth, strict=True)
    ]
    return sum(hits) / len(hits)
