"""Page images: RGB, upright, dark ink on light paper, at the size sent to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from langchain_internvl.errors import UnsupportedMediaError
from langchain_internvl.media.images import load_readable
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.pixels import check_size
from langchain_internvl.media.rgb import scale_grey
from langchain_internvl.media.sources import BytesSource

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from langchain_internvl.media.policy import MediaPolicy

LONG_SIDE = 1792
"""Longer side of an A4 page in pixels: four tiles of 448; its shorter side then takes three."""

_SQUARE = 0.78
"""Largest shorter side, as a share of the longer one: slightly over three of four 448 px tiles."""
_STRIP = 2.0
"""Ratio of the sides from which a page is a strip, whose shorter side sets its scale."""


def open_page(data: bytes, name: str, policy: MediaPolicy) -> Image.Image:
    """Decode an encoded image of one page.

    Args:
        data: The encoded image; of several frames the first is taken. HEIC is read if a reader of
            it is registered with Pillow (`pillow_heif.register_heif_opener()`).
        name: Name in error messages.
        policy: Limit on pixels.

    Returns:
        The page, in mode RGB, upright as its EXIF says.

    Raises:
        MediaError: The image is truncated or corrupt.
        MediaTooLargeError: The image is over a limit of the policy.
        UnsupportedMediaError: The bytes are not an image of a known format.
    """
    return load_readable(BytesSource(data, name), policy)


def page_from_array(values: NDArray[Any], name: str, policy: MediaPolicy) -> Image.Image:
    """A page from an array, as LangChain's PDF loaders pass images to `images_parser`.

    Args:
        values: Samples of shape [height, width] or [height, width, 1 to 4]: bools, uint8, or
            other integers, which are scaled to 8 bits (see `scale_grey`); a second or
            fourth channel is alpha, see `to_rgb` with `white_background`.
        name: Name in error messages.
        policy: Limit on pixels.

    Returns:
        The page in mode RGB.

    Raises:
        MediaError: The array has no pixels.
        UnsupportedMediaError: The array has another dtype or shape.
    """
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    elif values.dtype.kind in "iu" and values.dtype != np.uint8:
        values = scale_grey(values)
    if values.dtype != np.uint8:
        raise UnsupportedMediaError(name, f"arrays hold bools or integers, not {values.dtype}")
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.shape[2] not in {1, 2, 3, 4}:
        shapes = "[height, width] or [height, width, 1 to 4]"
        raise UnsupportedMediaError(name, f"arrays have shape {shapes}, not {values.shape}")
    check_size((values.shape[1], values.shape[0]), name, policy)
    samples = values[:, :, 0] if values.shape[2] == 1 else values
    return load_readable(PixelSource(Image.fromarray(np.ascontiguousarray(samples)), name), policy)


def fit_size(width: float, height: float, long_side: int = LONG_SIDE) -> tuple[int, int]:
    """Size of the page image that is sent to the model.

    The longer side becomes `long_side`, and the shorter one at most 0.78 of it, so that a square
    page takes no more tiles than A4. The shorter side of a strip of more than 2 to 1 (a receipt, a
    scroll) becomes half of `long_side`, so that its letters stay large enough.

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
    """Shrinks a page to `fit_size`; a smaller page is returned unchanged."""
    size = fit_size(*image.size, long_side)
    if size[0] >= image.width or size[1] >= image.height:
        return image
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
