"""Encoded bytes of a Pillow image that is opened and not decoded yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_internvl.errors import InternVLError, MediaTooLargeError
from langchain_internvl.media.encoded import formats, is_slow, open_image

if TYPE_CHECKING:
    from PIL import Image

    from langchain_internvl.media.policy import MediaPolicy


def slow_bytes(image: Image.Image, name: str, policy: MediaPolicy) -> bytes | None:
    """The encoded bytes of a slow image, for decoding in another process.

    The caller holds the locks of the image and of its file.

    Args:
        image: A Pillow image.
        name: Name in error messages.
        policy: Limits; `max_bytes` applies.

    Returns:
        The bytes; None if the image decodes fast, is decoded already, was changed after opening
        (`draft`, `seek`, `info`), or has no file of a supported format.

    Raises:
        MediaTooLargeError: The image is slow, and its file exceeds the limit.
    """
    if image.format not in formats() or not _is_undecoded(image):
        return None
    data = _read_all(getattr(image, "fp", None), policy.max_bytes + 1)
    if data is None or not is_slow(image, data):
        return None
    if len(data) > policy.max_bytes:
        raise MediaTooLargeError(name, f"larger than MediaPolicy.max_bytes={policy.max_bytes}")
    try:
        with open_image(data, name) as anew:
            return data if _identity(anew) == _identity(image) else None
    except InternVLError:
        return None


def _is_undecoded(image: Image.Image) -> bool:
    fields = vars(image)  # Pillow's property `im` would raise
    return fields.get("_im", fields.get("im")) is None


def _read_all(file: Any, most: int) -> bytes | None:
    """All bytes of a file object, whose position is restored; None if it cannot be read."""
    try:
        position = file.tell()
        file.seek(0)
        data = file.read(most)
        file.seek(position)
    except (AttributeError, OSError, ValueError):
        return None
    return data if isinstance(data, bytes) else None


def _identity(image: Image.Image) -> tuple[Any, ...]:
    """Attributes that determine the decoded pixels of an image, as known before decoding."""
    info = image.info
    tiles = [tuple(one) for one in getattr(image, "tile", ())]
    if image.format == "JPEG2000":  # the last arguments are number and length of the open file
        tiles = [(*one[:3], one[3][:3]) for one in tiles]
        tiles.append((getattr(image, "_reduce", 0), getattr(image, "layers", 0)))
    return (
        image.format, image.mode, image.size, image.tell(), tiles,
        info.get("transparency"), info.get("exif"),
    )  # fmt: skip
