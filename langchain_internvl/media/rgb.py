"""Converts any Pillow mode to RGB: as the reference does, or legibly for documents."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

PHOTOMETRIC = 262
"""TIFF tag; value 0: 0 is white. Pillow applies it only up to 8 bits."""

_DEPTHS = (8, 10, 12, 14, 16)
"""Common bits per sample of scanners, cameras and microscopes."""


def to_rgb(
    image: Image.Image, *, scale_16bit: bool = False, white_background: bool = False
) -> Image.Image:
    """Convert an image to mode RGB.

    The reference is `image.convert("RGB")`: grey values over 255 become white, and transparent
    pixels have their stored colour.

    Args:
        image: The image, in any mode.
        scale_16bit: Scale grey of more than 8 bits, see `scale_grey`; False: as the reference,
            with a warning if values are clipped.
        white_background: Composite transparent images on white, or on black where nothing would be
            seen on white, see `_on_ground`; False: as the reference, with a warning if any pixel
            is transparent.

    Returns:
        A new image, for every mode.
    """
    if image.mode == "La":  # Pillow converts La to LA only
        image = image.convert("LA")
    elif image.mode == "P" and image.has_transparency_data:  # same colours, no warning
        image = image.convert("RGBA")
    deep = is_deep(image)
    rgb = _deep_to_rgb(image, scale_16bit=scale_16bit) if deep else image.convert("RGB")
    rgb.info.pop("transparency", None)  # RGB pixels are opaque, also when saved as PNG
    alpha = _alpha(image)
    if alpha is None or alpha.getextrema() == (255, 255):
        return rgb
    if not white_background:
        warnings.warn(
            "transparent pixels show the colour that is stored under them, often black, as in the "
            "reference; ChatInternVL(white_background=True) puts the image on white",
            stacklevel=2,
        )
        return rgb
    rgb.putalpha(alpha)
    return _on_ground(rgb)


_FAINT = 36
"""Largest difference in brightness from the ground that is not seen, in 8-bit levels."""
_LEAST_SEEN = 8
"""Number of pixels that have to be seen."""
_PAPER = 0.75
"""Share of opaque pixels from which an image is a sheet itself, which may be empty."""


def _on_ground(image: Image.Image) -> Image.Image:
    """An image of mode RGBA on white, or on black if nothing would be seen on white.

    White text on a transparent ground, as logos and subtitles have it, would be lost on white. A
    white sheet with transparent corners is empty on any ground, and stays on white.
    """
    from PIL import Image as PILImage  # noqa: PLC0415 - imported at first use

    def on(ground: str) -> Image.Image:
        page = PILImage.new("RGBA", image.size, ground)
        page.alpha_composite(image)
        return page.convert("RGB")

    page = on("white")
    if sum(page.convert("L").histogram()[: 255 - _FAINT]) >= _LEAST_SEEN:
        return page
    opaque = image.getchannel("A").histogram()
    is_sheet = sum(opaque[128:]) >= _PAPER * sum(opaque)
    dark = None if is_sheet else on("black")
    if dark is None or sum(dark.convert("L").histogram()[_FAINT + 1 :]) < _LEAST_SEEN:
        return page  # nothing is seen on either
    return dark


def scale_grey(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Scale grey values of any range to 8 bits.

    Args:
        values: An array of integers or floats.

    Returns:
        An array of the same shape: the 8 highest bits of the 8, 10, 12, 14 or 16 that the largest
        value needs. Larger values are scaled by the largest, floats up to 1 by 255. If a value is
        negative, the range from the lowest to the largest value becomes 0 to 255. NaN becomes
        black, infinity the lowest or the largest other value.
    """
    import numpy as np  # noqa: PLC0415 - imported at first use

    if values.dtype.kind == "f":
        finite = values[np.isfinite(values)]
        lowest, largest = finite.min(initial=0), finite.max(initial=0)
        values = np.nan_to_num(values, nan=lowest, posinf=largest, neginf=lowest)
    if values.size and values.min() < 0:
        lowest, largest = float(values.min()), float(values.max())
        values = (values - lowest) * (255 / max(largest - lowest, 1e-300))
        return np.rint(values).clip(0, 255).astype(np.uint8)
    largest = values.max(initial=0)
    if values.dtype.kind == "f" and largest <= 1:
        values = values * 255
    elif largest > 65535:
        values = values / largest * 255
    else:
        depth = next(one for one in _DEPTHS if largest < 1 << one)
        values = values / (1 << (depth - 8))
    return values.clip(0, 255).astype(np.uint8)


def is_deep(image: Image.Image) -> bool:
    """Whether an image has one channel of more than 8 bits."""
    return image.mode in {"I", "F"} or image.mode.startswith("I;16")


def _alpha(image: Image.Image) -> Image.Image | None:
    """Alpha channel of an image in mode L; None if it has no transparency."""
    if not image.has_transparency_data:
        return None
    if not is_deep(image):
        has_channel = "A" in image.getbands()
        return (image if has_channel else image.convert("RGBA")).getchannel("A")
    import numpy as np  # noqa: PLC0415 - imported at first use
    from PIL import Image as PILImage  # noqa: PLC0415 - imported at first use

    # In 16-bit grey one value marks transparent pixels (PNG, chunk tRNS).
    is_opaque = np.asarray(image) != image.info["transparency"]
    return PILImage.fromarray(np.where(is_opaque, 255, 0).astype(np.uint8))


def is_negative(image: Image.Image) -> bool:
    """Whether 0 is white in an image, and Pillow has not inverted its values."""
    tags = getattr(image, "tag_v2", None)
    return is_deep(image) and tags is not None and tags.get(PHOTOMETRIC) == 0


def _deep_to_rgb(image: Image.Image, *, scale_16bit: bool) -> Image.Image:
    import numpy as np  # noqa: PLC0415 - imported at first use
    from PIL import Image as PILImage  # noqa: PLC0415 - imported at first use

    values = np.asarray(image)
    if not scale_16bit:
        if lost := _what_is_lost(values):
            warnings.warn(
                f"{lost}, as in the reference; ChatInternVL(scale_16bit=True) scales them",
                stacklevel=2,
            )
        return image.convert("RGB")
    grey = scale_grey(values)
    # Inverted after scaling: 12-bit values in 16 bits have their own white.
    return PILImage.fromarray(255 - grey if is_negative(image) else grey).convert("RGB")


def _what_is_lost(values: NDArray[Any]) -> str | None:
    """Text on what `image.convert("RGB")` loses of grey values; None if they fit in 8 bits."""
    largest = values.max(initial=0)
    if largest > 255:
        return "grey values over 255 of a 16-bit image become white"
    if values.size and values.min() < 0:
        return "negative grey values become black"
    if values.dtype.kind == "f" and 0 < largest <= 1:
        return "grey values from 0 to 1 become black"
    return None
