"""Images of tools: turned upright, optionally cropped, with boxes mapped back to the file."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from langchain_internvl.errors import MediaError
from langchain_internvl.grounding import Box, parse_boxes
from langchain_internvl.media.image_frames import count_frames
from langchain_internvl.media.images import load_readable, orientation_of
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource, Source

_WHOLE = Box(x1=0, y1=0, x2=1000, y2=1000)


@dataclass(frozen=True)
class ToolImage:
    """An image, turned upright by its EXIF orientation, whole or cropped.

    Attributes:
        pixels: Image for the prompt, RGB and upright.
        size: Width and height in pixels of the whole image as stored in the file, not turned.
        orientation: EXIF orientation of the file, 1 to 8.
        part: Position of `pixels` on the whole upright image; None: `pixels` is the whole image.
        damage: What of a PDF's page may be missing because the file is damaged; None: nothing.
        frames: Number of images in the file, of which `pixels` is the first.
        stand_in: Why the pages of a PDF may not show its content; None: they do.
    """

    pixels: Image.Image
    size: tuple[int, int]
    orientation: int = 1
    part: Box | None = None
    damage: str | None = None
    frames: int = 1
    stand_in: str | None = None

    @property
    def block(self) -> dict[str, Any]:
        """The content block of the image, with the pixels themselves, not encoded."""
        return {"type": "image", "image": self.pixels}

    @property
    def cut(self) -> Callable[[], Image.Image] | None:
        """Function that returns the cropped part; None: the image is whole."""
        return None if self.part is None else lambda: self.pixels

    @property
    def notes(self) -> str:
        """Notes for the agent about the region, the rest of the file, and damage of it."""
        repairs = self.part.repairs if self.part else ()
        notes = f"\n(The region: {'; '.join(repairs)}.)" if repairs else ""
        if self.damage is not None:
            notes += (
                f"\n(The file is damaged, and part of this page may be missing: {self.damage}.)"
            )
        if self.stand_in is not None:
            notes += f"\n(The file may have more than this page shows: {self.stand_in}.)"
        if self.frames > 1:
            notes += (
                f"\n(The file has {self.frames} images, as an animation has, of which only the "
                "first was looked at.)"
            )
        return notes

    @property
    def region(self) -> Box | None:
        """Position of `pixels` on the whole image as stored in the file; None: all of it."""
        if self.part is None:
            return None
        return self.to_file(_WHOLE).model_copy(update={"repairs": self.part.repairs})

    def crop(self, region: Box) -> ToolImage:
        """Crop this whole image to a region.

        Args:
            region: The region on the image as stored in the file, like all boxes of tools.

        Raises:
            MediaError: The region has no pixels of the image.
        """
        upright = _turn(region, _UPRIGHT[self.orientation])
        width, height = self.pixels.size
        corners = upright.model_copy(update={"size": self.pixels.size}).pixels or (0, 0, 0, 0)
        left, top = min(corners[0], width - 1), min(corners[1], height - 1)
        right, bottom = max(corners[2], left + 1), max(corners[3], top + 1)
        # The part after rounding to whole pixels.
        part = Box.from_space((left, top, right, bottom), "pixel", (width, height))
        part = part.model_copy(update={"repairs": region.repairs})
        return replace(self, pixels=self.pixels.crop((left, top, right, bottom)), part=part)

    def to_file(self, box: Box) -> Box:
        """Map a box on `pixels` to the whole image as stored in the file."""
        whole = box if self.part is None else box.within(self.part)
        return _turn(whole, _STORED[self.orientation]).model_copy(update={"size": self.size})


def open_image(source: Source, policy: MediaPolicy, region: str | None = None) -> ToolImage:
    """Read an image, or a region of it.

    Args:
        source: The image; it is read once.
        policy: Limits on bytes and pixels.
        region: The region, see `parse_region`; None: the whole image.

    Raises:
        MediaError: The image cannot be read, or the region is invalid.
    """
    held = BytesSource(source.read(policy), source.name)
    orientation = orientation_of(held, policy)
    pixels = load_readable(held, policy)
    size = pixels.size if orientation < 5 else (pixels.height, pixels.width)
    frames = count_frames(held.data, held.name, policy)
    picture = ToolImage(pixels, size, orientation, frames=frames)
    return picture if region is None else picture.crop(parse_region(region))


_QUOTED_NUMBER = re.compile(r"""["']\s*([-+]?[\d.]+)\s*["']""")


def parse_region(region: str) -> Box:
    """Parse the region argument of a tool.

    Args:
        region: left, top, right, bottom in thousandths of the image (0 to 1000), with or
            without brackets; or a box in any form that models write, as an object of JSON too.

    Raises:
        MediaError: The text is not a box.
    """
    text = _QUOTED_NUMBER.sub(r"\1", region.strip())
    boxes = parse_boxes(text) or parse_boxes(f"[{text}]")
    is_outside = any("reached out" in repair for box in boxes for repair in box.repairs)
    if len(boxes) != 1 or is_outside:
        raise MediaError(
            f"region {region[:60]!r}",
            "is no box; give left, top, right, bottom in thousandths of the picture (0 to 1000, "
            "not pixels), such as '100, 200, 300, 400'",
        )
    return boxes[0]


# Position of the point (x, y) of the unit square after an image of each EXIF orientation
# (CIPA DC-008, tag Orientation) is turned upright: the new x and y, each equal to the old x or y
# ("x", "y") or to 1 minus it ("-x", "-y"); and the same for the inverse.
_UPRIGHT = {
    1: ("x", "y"), 2: ("-x", "y"), 3: ("-x", "-y"), 4: ("x", "-y"),
    5: ("y", "x"), 6: ("-y", "x"), 7: ("-y", "-x"), 8: ("y", "-x"),
}  # fmt: skip
_STORED = {**_UPRIGHT, 6: ("y", "-x"), 8: ("-y", "x")}


def _turn(box: Box, rule: tuple[str, str]) -> Box:
    place = {"x": (box.x1, box.x2), "y": (box.y1, box.y2)}
    spans = []
    for axis in rule:
        low, high = place[axis[-1]]
        spans.append((1000 - high, 1000 - low) if axis.startswith("-") else (low, high))
    (x1, x2), (y1, y2) = spans
    return box.model_copy(update={"x1": x1, "y1": y1, "x2": x2, "y2": y2})
