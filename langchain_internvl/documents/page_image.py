"""A page's pixels as a model should see them: RGB, upright, ink dark and paper light.

The reference's own conversion (`Image.convert("RGB")`) saturates 16-bit grey at 255 and drops
alpha, which turns a deep scan white and black text on a transparent ground black. Scans come in
both forms, so the conversion here scales and blends.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from langchain_internvl.errors import MediaError, MediaTooLargeError, UnsupportedMediaError
from langchain_internvl.media.images import formats, load_rgb, sniff_mime_type
from langchain_internvl.media.sources import BytesSource

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from langchain_internvl.media.policy import MediaPolicy

_DEEP_MODES = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}
"""Pillow's modes of more than 8 bits a channel."""

LONG_SIDE = 1792
"""Longer side of an A4 page in pixels: four tiles of 448; its shorter side then takes three."""

_SQUARE = 0.78
"""Most of the shorter side, as a share of the longer: three tiles of 448 and a bit, of four."""
_STRIP = 2.0
"""Ratio of the sides from which a page is a strip: its shorter side counts then."""


def page_formats() -> tuple[str, ...]:
    """Names of the readable image formats: the package's, and HEIC if a reader is registered."""
    return (*formats(), *(name for name in ("HEIF", "AVIF") if name in Image.OPEN))


def open_page(data: bytes, name: str, policy: MediaPolicy) -> Image.Image:
    """Decode an encoded image of one page.

    Args:
        data: The encoded image; of several frames the first is taken.
        name: Name in error messages.
        policy: Limit on pixels.

    Returns:
        The page, in mode RGB, upright as its EXIF says.

    Raises:
        MediaError: It is truncated or corrupt.
        MediaTooLargeError: It is over a limit of the policy.
        UnsupportedMediaError: It is no image of a known format.
    """
    if sniff_mime_type(data) is None and not is_heif(data):
        return load_rgb(BytesSource(data, name), policy)  # says what is wrong
    try:
        with Image.open(io.BytesIO(data), formats=page_formats()) as image:
            check_pixels(image.size, name, policy)
            if needs_own_conversion(image):
                return to_page_rgb(image)
    except MediaError:
        raise
    except Exception as error:  # Pillow's readers raise anything on broken files
        raise MediaError(name, f"the image is truncated or corrupt: {error}") from error
    return load_rgb(BytesSource(data, name), policy, exif_transpose=True)


def is_heif(data: bytes) -> bool:
    """Whether bytes begin as an HEIC photograph, if a reader of those is registered."""
    return "HEIF" in Image.OPEN and data[4:8] == b"ftyp"


def check_pixels(size: tuple[int, int], name: str, policy: MediaPolicy) -> None:
    """Refuse a page without pixels or with too many.

    Raises:
        MediaError: A side is zero.
        MediaTooLargeError: It has more pixels than the policy allows.
    """
    width, height = size
    if width < 1 or height < 1:
        raise MediaError(name, f"has no pixels (size {width} x {height})")
    if width * height > policy.max_pixels:
        raise MediaTooLargeError(
            name, f"{width} x {height} pixels are over MediaPolicy.max_pixels={policy.max_pixels}"
        )


def needs_own_conversion(image: Image.Image) -> bool:
    """Whether the reference's conversion would lose the text of a page in this mode."""
    has_alpha = image.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in image.info
    return image.mode in _DEEP_MODES or has_alpha or image.format == "HEIF"


def to_page_rgb(image: Image.Image) -> Image.Image:
    """A page image in mode RGB: deep grey scaled to 8 bits, transparency on white.

    Args:
        image: An image of any of Pillow's modes.

    Returns:
        An image of the same size; EXIF orientation is applied.
    """
    exif = image.getexif() if image.format != "TIFF" else {}
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(exif.get(0x0112, 1))  # fmt: skip
    if image.mode in _DEEP_MODES:
        rgb = Image.fromarray(scale_deep(np.asarray(image))).convert("RGB")
    elif needs_own_conversion(image) and image.format != "HEIF":
        shown = image.convert("RGBA")
        rgb = Image.new("RGB", image.size, "white")
        rgb.paste(shown, mask=shown.getchannel("A"))
    else:
        rgb = image.convert("RGB")
    return rgb if turn is None else rgb.transpose(turn)


def scale_deep(values: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Samples of more than 8 bits as 8 bits.

    16-bit samples that use at least 12 bits are divided by 257. Samples in a smaller range (a
    12-bit sensor, or floats) are stretched from their least to their greatest value.

    Args:
        values: Grey or colour samples, integers or floats, of any shape.

    Returns:
        uint8 array of the same shape; 0 is the darkest.
    """
    deep = np.nan_to_num(np.asarray(values).astype(np.float64))
    low, high = float(deep.min(initial=0)), float(deep.max(initial=0))
    if 4095 < high <= 65535 and low >= 0:
        deep /= 257
    elif high <= low:
        deep[...] = 0 if high <= 0 else 255
    elif low >= 0 and high <= 1:
        deep *= 255
    elif low < 0 or high > 255:
        deep = (deep - low) * (255 / (high - low))
    return np.asarray(deep.round(), np.uint8)


def page_from_array(values: NDArray[np.generic], name: str, policy: MediaPolicy) -> Image.Image:
    """A page from an array, as PDF loaders of LangChain hand them over.

    Args:
        values: Samples of shape [height, width] or [height, width, 1 to 4]: bool, 8 or 16 bits;
            a second or fourth channel is alpha and is blended with white.
        name: Name in error messages.
        policy: Limit on pixels.

    Returns:
        The page in mode RGB.

    Raises:
        MediaError: It has no pixels.
        UnsupportedMediaError: It is of another type or shape.
    """
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    elif values.dtype == np.uint16:
        values = scale_deep(values)
    if values.dtype != np.uint8:
        raise UnsupportedMediaError(name, f"arrays hold bool, uint8 or uint16, not {values.dtype}")
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in {1, 2, 3, 4}:
        raise UnsupportedMediaError(
            name, f"arrays have shape [height, width] or [height, width, 1 to 4], not "
            f"{values.shape}"
        )  # fmt: skip
    check_pixels((values.shape[1], values.shape[0]), name, policy)
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[values.shape[2]]
    samples = np.ascontiguousarray(values[:, :, 0] if mode == "L" else values)
    return to_page_rgb(Image.fromarray(samples))


def fit_size(width: float, height: float, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Size at which a page is read.

    A page gets `long_side` at its longer side, and at most 0.78 of it at its shorter one, so that
    a square page takes no more tiles than A4. A strip of more than 2 to 1 (a receipt, a scroll)
    gets half of it at its shorter side, so that its letters stay large enough.

    Args:
        width: Width, in any unit.
        height: Height, in the same unit.
        long_side: Longer side of an A4 page in pixels.

    Returns:
        Width and height in pixels, with the aspect ratio kept, each at least 1.
    """
    short, long = sorted((max(width, 1e-9), max(height, 1e-9)))
    box = min(long_side / long, _SQUARE * long_side / short)
    scale = max(box, min(long_side / _STRIP / short, 16 * long_side / long))
    return max(1, round(width * scale)), max(1, round(height * scale))


def shrink(image: Image.Image, long_side: int = LONG_SIDE) -> Image.Image:
    """A page at the size of `fit_size`, if it is larger; smaller ones stay as they are."""
    size = fit_size(*image.size, long_side)
    if size[0] >= image.width or size[1] >= image.height:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
