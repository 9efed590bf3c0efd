"""Encoded bytes to RGB pixels, exactly as the reference reads them.

The reference is one line, `Image.open(file).convert("RGB")`: alpha is dropped and not blended,
16-bit grey saturates at 255, EXIF orientation is ignored, an animation gives its first frame.
Here the same line runs behind the checks that unknown files need.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

from PIL import Image, UnidentifiedImageError

from langchain_internvl.errors import MediaError, MediaTooLargeError, UnsupportedMediaError
from langchain_internvl.media.pixels import PixelSource, check_size, no_memory, read_orientation
from langchain_internvl.media.rgb import to_rgb

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

# Pillow reads more, but some of its readers start other programs (EPS) or are little tested.
_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "QOI", "TGA",
    "TIFF", "WEBP",
)  # fmt: skip


@cache
def formats() -> tuple[str, ...]:
    """Names of the image formats that are read, as far as this build of Pillow has them."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


# What turns a picture of each EXIF orientation upright (CIPA DC-008, tag Orientation).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = {5, 6, 7, 8}


def load_rgb(
    source: Source,
    policy: MediaPolicy,
    *,
    exif_transpose: bool = False,
    scale_16bit: bool = False,
    white_background: bool = False,
) -> Image.Image:
    """Decode an image to RGB.

    Args:
        source: Where the image comes from.
        policy: Limits on bytes and pixels.
        exif_transpose: Turn the picture as its EXIF orientation says. The reference does not;
            photographs of phones often need it.
        scale_16bit: Scale grey of more than 8 bits, see `to_rgb`.
        white_background: Put transparent images on white, see `to_rgb`.

    Returns:
        The picture, in mode RGB.

    Raises:
        MediaError: The image is empty, truncated or corrupt.
        MediaTooLargeError: It is over a limit of the policy.
        UnsupportedMediaError: It is no image of a known format.
    """
    with _opened(source, policy) as image:
        turn = _UPRIGHT.get(read_orientation(image)) if exif_transpose else None
        rgb = to_rgb(image, scale_16bit=scale_16bit, white_background=white_background)
        return rgb if turn is None else rgb.transpose(turn)


def load_readable(source: Source, policy: MediaPolicy) -> Image.Image:
    """An image as a person would see it: upright, 16-bit grey scaled, transparency on white.

    For tools and documents; messages show what the reference shows. See `load_rgb`.
    """
    return load_rgb(source, policy, exif_transpose=True, scale_16bit=True, white_background=True)


def read_size(
    source: Source, policy: MediaPolicy, *, exif_transpose: bool = False
) -> tuple[int, int]:
    """Width and height in pixels, from the header alone; see `load_rgb` for the arguments."""
    with _opened(source, policy) as image:
        width, height = image.size
        is_sideways = exif_transpose and read_orientation(image) in _SIDEWAYS
    return (height, width) if is_sideways else (width, height)


def orientation_of(source: Source, policy: MediaPolicy) -> int:
    """The EXIF orientation of an image, 1 to 8; see `load_rgb` for the arguments."""
    with _opened(source, policy) as image:
        return read_orientation(image)


def sniff_mime_type(data: bytes) -> str | None:
    """The MIME type of an encoded image, or None if it is no image of a known format."""
    try:
        with Image.open(io.BytesIO(data), formats=formats()) as image:
            mime_type: str | None = image.get_format_mimetype()
            return mime_type
    except Exception:  # noqa: BLE001 - a broken file has no type; reading it will say why
        return None


@contextmanager
def _opened(source: Source, policy: MediaPolicy) -> Iterator[Image.Image]:
    """A Pillow image of a source, for this thread alone until the context ends."""
    if isinstance(source, PixelSource):
        with source.decoded(policy) as decoded:
            yield decoded
        return
    data = source.read(policy)
    if not data:
        raise MediaError(source.name, "is empty")
    image = _parse(data, source.name)
    check_size(image.size, source.name, policy)
    try:
        yield image
    except MemoryError as error:
        raise no_memory(image.size, source.name) from error
    except Exception as error:  # Pillow's readers raise anything on broken files
        raise MediaError(source.name, f"the image is truncated or corrupt: {error}") from error


_MOST_SCANS = 100
"""Of a progressive JPEG, which is drawn anew with each; encoders write about ten. (The cost is
that of "Two Issues with the JPEG Standard", https://libjpeg-turbo.org/pmwiki/uploads/About/.)"""


def _parse(data: bytes, name: str) -> Image.Image:
    if data.startswith(b"\xff\xd8") and data.count(b"\xff\xda") > _MOST_SCANS:
        raise MediaTooLargeError(name, f"a JPEG of more than {_MOST_SCANS} scans is not decoded")
    try:
        return Image.open(io.BytesIO(data), formats=formats())
    except UnidentifiedImageError as error:
        raise UnsupportedMediaError(
            name, f"is not an image that can be read ({', '.join(formats())}), or is damaged"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaTooLargeError(
            name, f"{error} (PIL.Image.MAX_IMAGE_PIXELS and MediaPolicy.max_pixels)"
        ) from error
    except Exception as error:  # Pillow's readers raise anything on broken files
        raise MediaError(name, f"the image is truncated or corrupt: {error}") from error
