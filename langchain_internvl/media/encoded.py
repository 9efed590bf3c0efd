"""Opens encoded image files with Pillow, under limits, and decodes them to RGB.

This module starts no process; `image_worker` runs it in a process that can be killed.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageFile, UnidentifiedImageError

from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    MediaTooLargeError,
    UnsupportedMediaError,
)
from langchain_internvl.media.byte_sources import count_scans
from langchain_internvl.media.pillow_readers import is_foreign, reference
from langchain_internvl.media.pixels import PixelLimit, check_size, no_memory, read_orientation
from langchain_internvl.media.rgb import to_rgb
from langchain_internvl.media.signatures import identify, name_of, unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

# Other readers of Pillow start programs (EPS) or are little tested. HEIF and JXL are available once
# a reader is registered (pillow-heif, pillow-jxl-plugin).
_FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "JXL", "PNG", "PPM", "QOI",
    "TGA", "TIFF", "WEBP",
)  # fmt: skip

# Transposition that makes each EXIF orientation upright (CIPA DC-008, tag Orientation).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_WITH_ORIENTATION = (
    "exif", "xmp", "Raw profile type exif", "XML:com.adobe.xmp", "Raw profile type xmp",
)  # fmt: skip
"""Entries of `Image.info` in which Pillow looks for the orientation."""

_SINGLE = {"BMP", "DIB", "JPEG"}
"""Formats of one image, whose file is released once it is decoded."""

SIDEWAYS = frozenset({5, 6, 7, 8})
"""EXIF orientations that swap width and height."""

_MOST_SCANS = 100
"""Maximum scans of a progressive JPEG; each decodes the whole image, and encoders write about ten.
(For the cost see "Two Issues with the JPEG Standard", https://libjpeg-turbo.org/pmwiki/uploads/About/.)"""

_MOST_READS = 10_000
"""Maximum reads of a file by a Pillow reader, in addition to one per 256 bytes. Readers parse
chunks, markers, tags and comments in Python, and a hostile file has millions of them."""

_FAST = frozenset({"BMP", "DIB", "GIF", "JPEG", "MPO", "PNG", "PPM", "TGA", "TIFF", "WEBP"})
"""Formats with decoders in C that take about a second for the largest image."""

_SMALL = 1 << 16
"""Number of pixels that every decoder decodes in a fraction of a second."""


@dataclass(frozen=True)
class ReadOptions:
    """Options of the conversion to RGB; see `images.load_rgb`."""

    exif_transpose: bool = False
    scale_16bit: bool = False
    white_background: bool = False

    def as_json(self) -> dict[str, bool]:
        """The options, for a task of `image_worker`."""
        return asdict(self)

    def apply(self, image: Image.Image, *, may_keep: bool = False) -> Image.Image:
        """Convert an image to RGB.

        Args:
            image: The image, in any mode.
            may_keep: Return the image itself if it is RGB already, instead of a copy (35 MB for an
                A4 page at 300 dpi). For images that this package has opened.
        """
        turn = _UPRIGHT.get(read_orientation(image)) if self.exif_transpose else None
        is_own = may_keep and image.mode == "RGB" and image.format in _SINGLE
        if is_own:
            image.load()
        if is_own and not image.has_transparency_data:
            rgb = image
        else:
            rgb = to_rgb(
                image, scale_16bit=self.scale_16bit, white_background=self.white_background
            )
        if turn is None:
            return rgb
        upright = rgb.transpose(turn)
        for name in _WITH_ORIENTATION:  # else the next reader turns it again
            upright.info.pop(name, None)
        return upright

    def apply_own(self, image: Image.Image) -> Image.Image:
        """Convert an image that this package has opened, see `apply`."""
        return self.apply(image, may_keep=True)


_RAW = (
    "is a raw photograph (CR2, NEF, ARW, DNG ...), of which only a thumbnail can be read here: "
    "develop it (rawpy.imread(path).postprocess() gives an array), or export it as JPEG"
)


def formats() -> tuple[str, ...]:
    """Names of the supported image formats that this build of Pillow reads."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)


def open_image(
    data: bytes, name: str, scans: int | None = None, *, more_reads: int = 0
) -> Image.Image:
    """Open an image without decoding its pixels.

    Args:
        data: The file.
        name: Name in error messages.
        scans: Result of `count_scans`, if it is known.
        more_reads: Reads of the file that are allowed in addition, see `_MOST_READS`.

    Raises:
        MediaError: It is empty, or its header is corrupt.
        MediaTooLargeError: It has too many pixels, JPEG scans or parts to parse.
        UnsupportedMediaError: It is no image of a known format.
    """
    if not data:
        raise MediaError(name, "is empty")
    if (count_scans(data) if scans is None else scans) > _MOST_SCANS:
        raise MediaTooLargeError(name, f"a JPEG of more than {_MOST_SCANS} scans is not decoded")
    file = _CountedFile(data)
    try:
        image = Image.open(file, formats=formats())
    except UnidentifiedImageError as error:
        file.check(name)
        raise UnsupportedMediaError(name, _why_unknown(data)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise MediaTooLargeError(
            name, f"{error} (PIL.Image.MAX_IMAGE_PIXELS and MediaPolicy.max_pixels)"
        ) from error
    except Exception as error:  # Pillow's readers raise anything on broken files
        file.check(name)
        kind = f"{name_of(data)} of {len(data)} bytes"
        raise MediaError(
            name, f"the image is truncated or corrupt ({kind}): {error}; get the whole file"
        ) from error
    if image.format == "JPEG" and isinstance(image, ImageFile.ImageFile):
        image.decodermaxblock = max(len(data), image.decodermaxblock)  # one call without the GIL
    if image.format == "TIFF" and (_is_raw(image) or data[8:10] == b"CR"):
        raise UnsupportedMediaError(name, _RAW)
    # An uncompressed TIFF may have one strip per pixel row; decoders in Python read pixel by pixel.
    pixels = image.width * image.height
    file.allow(more_reads + 4 * (pixels if pixels <= _SMALL else image.height))
    return image


def use_image(image: Image.Image, name: str, use: Callable[[Image.Image], Any]) -> Any:
    """Call a function with an opened image, which may decode it; returns the result.

    Raises:
        MediaError: It is truncated or corrupt.
        MediaTooLargeError: Decoding would take too long or too much memory.
    """
    file = getattr(image, "fp", None)
    try:
        return use(image)
    except InternVLError:
        raise
    except MemoryError as error:
        raise no_memory(image.size, name) from error
    except Exception as error:  # Pillow's readers raise anything on broken files
        if isinstance(file, _CountedFile):
            file.check(name)
        raise MediaError(
            name, f"the {image.format or ''} image is truncated or corrupt: {error}"
        ) from error


def decode_image(data: bytes, name: str, limit: PixelLimit, options: ReadOptions) -> Image.Image:
    """Decode an image in this process, without a time limit.

    Raises:
        MediaError: See `open_image` and `use_image`.
        MediaTooLargeError: It has more pixels than the limit.
    """
    image = open_image(data, name)
    check_size(image.size, name, limit)
    if isinstance(file := getattr(image, "fp", None), _CountedFile):
        file.allow(1 << 62)  # the process itself has a deadline
    rgb: Image.Image = use_image(image, name, options.apply_own)
    check_size(rgb.size, name, limit)  # images in icons may differ from the stated size
    return rgb


def is_slow(image: Image.Image, data: bytes, scans: int | None = None) -> bool:
    """Whether decoding may take seconds or gigabytes, and so needs its own process.

    Only decoders in C of common formats count as fast, and small images. Readers written in Python
    (QOI, plain PPM, BMP RLE) take about 2 s for a million pixels or a megabyte; OpenJPEG takes
    about 20 bytes of memory for a pixel. A progressive JPEG is decoded once for every scan. Readers
    that are not part of Pillow count as slow, unless no other process can import them.

    Args:
        image: An opened image.
        data: Its file.
        scans: Result of `count_scans`, if it is known.
    """
    pixels = image.width * image.height
    tiles = getattr(image, "tile", ())
    if is_foreign(image.format):
        return reference(image.format) is not None  # of unknown speed
    if pixels <= _SMALL and len(data) <= 1 << 16:
        return False
    if image.format in {"JPEG2000", "AVIF"}:
        return pixels > 1 << 22
    # Pillow starts a decoder in Python for every strip or tile of a TIFF.
    if image.format not in _FAST or len(tiles) > _MOST_READS + 4 * image.height:
        return True
    if {str(tile[0]) for tile in tiles} & Image.DECODERS.keys():  # in Python
        return True
    if scans is None:
        scans = data.count(b"\xff\xda") if image.format in {"JPEG", "MPO"} else 1
    return pixels * max(scans, 1) > 1 << 26


class _CountedFile(io.BytesIO):
    """An in-memory file with a limited number of reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = _MOST_READS + len(data) // 256

    def allow(self, reads: int) -> None:
        """Raise the limit by a number of reads."""
        self._left += reads

    def check(self, name: str) -> None:
        """Raise if the limit was exceeded.

        Raises:
            MediaTooLargeError: There were more reads than allowed.
        """
        if self._left <= 0:
            raise MediaTooLargeError(
                name, "its header or structure has too many parts to read; save it anew"
            )

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left <= 0:
            raise OSError("too many parts")
        return super().read(size)


def _why_unknown(data: bytes) -> str:
    known = ", ".join(formats())
    found = identify(data)
    if found is None:
        return f"is not an image that can be read ({known}), or is damaged"
    readers = {"AVIF": "AVIF", "HEIF": "HEIF", "JPEG XL": "JXL"}
    reader = next((name for words, name in readers.items() if words in found.name), None)
    if found.is_image or reader in formats():
        return f"is {found.name} that cannot be read: {unreadable(data)}"
    return f"is {found.name}, and not an image that can be read ({known}): {found.remedy}"


_SUBFILE, _SUB_IMAGES, _DNG = 254, 330, 50706
"""Tags of TIFF (TIFF 6.0; TIFF/EP, ISO 12234-2; DNG 1.7)."""


def _is_raw(image: Image.Image) -> bool:
    """Whether a TIFF is a raw photograph (DNG, NEF, ARW ...), of which Pillow reads a thumbnail."""
    tags = getattr(image, "tag_v2", {})
    if _DNG in tags:
        return True
    if _SUB_IMAGES not in tags:
        return False
    kind = tags.get(_SUBFILE, 0)
    return isinstance(kind, int) and bool(kind & 1)
