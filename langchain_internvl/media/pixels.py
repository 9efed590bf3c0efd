"""Limits on pixels, and the orientation of images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from langchain_internvl.errors import MediaError, MediaTooLargeError

if TYPE_CHECKING:
    from PIL import Image

ORIENTATION = 0x0112
"""EXIF tag: 1 is upright, 2 to 8 are rotated or mirrored."""

_MOST_EXIF = 1 << 20

MAX_SIDE = 1 << 22
"""Longest side of an image in pixels. Pillow's resizing allocates 32 bytes per pixel of a side, and
raises a bare MemoryError from 2 GiB on."""


class PixelLimit(Protocol):
    """A limit on pixels; `MediaPolicy` is one."""

    @property
    def max_pixels(self) -> int:
        """Largest width times height of one image."""


def check_size(size: tuple[int, int], name: str, limit: PixelLimit) -> None:
    """Reject images without pixels, or with too many.

    Args:
        size: Width and height in pixels.
        name: Name in error messages.
        limit: Maximum number of pixels.

    Raises:
        MediaError: The image has no pixels.
        MediaTooLargeError: The image has more pixels than the limit, or a side is too long.
    """
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(name, f"has no pixels (size {width} x {height})")
    if max(width, height) > MAX_SIDE:
        raise MediaTooLargeError(
            name, f"{width} x {height} pixels: no side may be longer than {MAX_SIDE} pixels"
        )
    if width * height > limit.max_pixels:
        raise MediaTooLargeError(
            name, f"{width} x {height} pixels are over MediaPolicy.max_pixels={limit.max_pixels}"
        )


def no_memory(size: tuple[int, int], name: str) -> MediaTooLargeError:
    """The error for an image whose decoding or resizing runs out of memory."""
    width, height = size
    return MediaTooLargeError(
        name, f"{width} x {height} pixels need too much memory; reduce its width and height"
    )


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, 1 to 8; broken EXIF means upright.

    TIFF files count as upright, because Pillow rotates them while it decodes.
    """
    if image.format == "TIFF":
        return 1
    if len(image.info.get("exif") or b"") > _MOST_EXIF:
        return 1  # Pillow would parse the tags in Python
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - Pillow's EXIF reader raises anything on broken data
        return 1
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
