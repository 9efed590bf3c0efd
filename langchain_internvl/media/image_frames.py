"""Counts the images of a file of which only the first is read, so that callers can say so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_internvl.media.encoded import open_image

if TYPE_CHECKING:
    from PIL import Image

    from langchain_internvl.media.policy import MediaPolicy

_GAIN_MAPS = (b"hdrgm", b"HDRGainMap", b"iso:ts:21496")
"""Names in the metadata of a second image that only brightens the first (Adobe's gain map
specification; Apple's HEIF; ISO 21496-1)."""
_HEAD = 1 << 16


def count_frames(data: bytes, name: str, policy: MediaPolicy) -> int:
    """The number of images in a file: frames of an animation, pages, pictures of an MPO.

    What belongs to another image is not counted: smaller copies (previews, thumbnails) and gain
    maps of photographs. Of a damaged file the images up to the damage count.

    Args:
        data: The file, in a format that `open_image` opens.
        name: Name in error messages.
        policy: Limits, see `tiff_pages.find_pages`.
    """
    # Every frame is parsed, and a frame of a GIF has a part for each 255 bytes.
    image = open_image(data, name, more_reads=len(data) // 16)
    if image.format == "TIFF":
        from langchain_internvl.media.tiff_pages import find_pages  # noqa: PLC0415 - its imports

        return max(1, len(find_pages(image, name, policy)[0]))
    if image.format == "MPO":
        return _count_pictures(image, data)
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # noqa: BLE001 - Pillow's readers raise anything on broken files
        return int(image.tell()) + 1


def _count_pictures(image: Image.Image, data: bytes) -> int:
    """Pictures of an MPO (CIPA DC-007), such as a stereo pair or a panorama."""
    pixels = image.width * image.height
    pictures = 1
    for number in range(1, int(getattr(image, "n_frames", 1))):
        try:
            image.seek(number)
        except Exception:  # noqa: BLE001 - Pillow's readers raise anything on broken files
            break
        start = int(getattr(image, "offset", 0))
        head = data[start : start + _HEAD]
        is_gain_map = any(mark in head for mark in _GAIN_MAPS)
        pictures += image.width * image.height >= pixels and not is_gain_map
    return pictures
