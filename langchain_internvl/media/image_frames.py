"""Finds the images of a file: pages of a TIFF, and how many others a file has beside its first."""

from __future__ import annotations

import time
from itertools import count
from typing import TYPE_CHECKING

from langchain_internvl.errors import MediaTooLargeError
from langchain_internvl.media.encoded import open_image

if TYPE_CHECKING:
    from PIL import Image

    from langchain_internvl.media.policy import MediaPolicy

_GAIN_MAPS = (b"hdrgm", b"HDRGainMap", b"iso:ts:21496")
"""Names in the metadata of a second image that only brightens the first (Adobe's gain map
specification; Apple's HEIF; ISO 21496-1)."""
_HEAD = 1 << 16
_MOST_READS = 1 << 22
"""Reads of a file, each of which takes about a microsecond: every frame is parsed, and a frame of a
GIF has a part for each 255 bytes. Frames beyond that are not counted."""
_MOST_SECONDS = 2.0
"""Seconds for the pages of a TIFF, whose chain takes quadratic time."""


def count_frames(data: bytes, name: str, policy: MediaPolicy) -> int:
    """The number of images in a file: frames of an animation, pages, pictures of an MPO.

    What belongs to another image is not counted: smaller copies (previews, thumbnails) and gain
    maps of photographs. Of a damaged file the images up to the damage count, and of a huge one
    those that are found in some seconds.

    Args:
        data: The file, in a format that `open_image` opens.
        name: Name in error messages.
        policy: Limits, see `find_pages`.
    """
    image = open_image(data, name, more_reads=min(len(data), _MOST_READS))
    if image.format == "TIFF":
        brief = policy.model_copy(update={"timeout": min(policy.timeout, _MOST_SECONDS)})
        try:
            return max(1, len(find_pages(image, name, brief)[0]))
        except MediaTooLargeError:  # its first page can be read all the same
            return int(image.tell()) + 1
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


_SUBFILE = 254
"""Tag NewSubfileType of TIFF 6.0: bit 0 marks a smaller copy of another image of the file."""


def find_pages(image: Image.Image, name: str, policy: MediaPolicy) -> tuple[list[int], bool]:
    """Frames of a TIFF that are pages, and whether a damaged one follows.

    Copies of a page that are smaller (of pyramids and thumbnails) are no pages. A frame that is
    marked as one and is as large as the pages is a page: some programs mark all but the first.

    Args:
        image: The opened TIFF; it shows another frame afterwards.
        name: Name in error messages.
        policy: Limit on seconds: the time for a chain of many frames grows with its square.

    Raises:
        MediaTooLargeError: Finding the pages takes too long.
    """
    found: list[tuple[int, int, bool]] = []
    is_broken = False
    end = time.monotonic() + policy.timeout
    for number in count():
        if time.monotonic() > end:
            raise MediaTooLargeError(
                name,
                f"has too many pages to be found within MediaPolicy.timeout={policy.timeout:g} s",
            )
        try:
            image.seek(number)
            kind = getattr(image, "tag_v2", {}).get(_SUBFILE, 0)
            is_copy = isinstance(kind, int) and bool(kind & 1)
            found.append((number, image.width * image.height, is_copy))
        except EOFError:
            break
        except Exception:  # noqa: BLE001 - Pillow's readers raise anything on broken files
            is_broken = True
            break
    least = min((pixels for _, pixels, is_copy in found if not is_copy), default=0)
    places = [number for number, pixels, is_copy in found if not is_copy or pixels >= least]
    return places, is_broken
