"""The size of an image on paper, as its resolution says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from langchain_internvl.media.encoded import SIDEWAYS, open_image
from langchain_internvl.media.pixels import ORIENTATION, read_orientation

if TYPE_CHECKING:
    from PIL import Image

_SCREEN = 96.0
"""Programs that do not know a resolution write up to this one, in dots per inch."""
_A3, _A0 = 17.0, 47.0
"""Longer sides of paper in inches, rounded up."""


def print_size(image: Image.Image) -> tuple[float, float] | None:
    """Width and height of an image on paper in inches, upright as its EXIF says.

    Args:
        image: The image as it was opened: decoding removes the orientation from a TIFF's tags.

    Returns:
        None: the image has no resolution, or one that cannot be: its longer side would be below
        one inch, or above A0, or above A3 at a resolution of screens.
    """
    try:
        across, down = (float(one) for one in image.info["dpi"])
        if _is_turned_tiff(image):
            across, down = down, across
        width, height = image.width / across, image.height / down
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    longest = max(width, height)
    most = _A3 if min(across, down) <= _SCREEN else _A0
    if not (math.isfinite(width * height) and min(width, height) > 0 and 1 <= longest <= most):
        return None
    return (height, width) if read_orientation(image) in SIDEWAYS else (width, height)


def _is_turned_tiff(image: Image.Image) -> bool:
    """Whether the sides of a TIFF have changed places, and its resolutions have not.

    Pillow opens a TIFF with the size that it has upright; the resolutions are those of the tags.
    """
    return getattr(image, "tag_v2", {}).get(ORIENTATION) in SIDEWAYS


def print_size_of(data: bytes) -> tuple[float, float] | None:
    """`print_size` of an encoded image; None also if it cannot be opened."""
    try:
        return print_size(open_image(data, ""))
    except Exception:  # noqa: BLE001 - reading the image reports the error
        return None
