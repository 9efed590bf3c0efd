"""Draws boxes and labels on images, for people and models."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from langchain_internvl.grounding.box import Box
from langchain_internvl.grounding.fonts import Font, LabelFonts
from langchain_internvl.media.images import load_rgb
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import PathSource, to_source

Rectangle = tuple[int, int, int, int]

# Okabe and Ito's colour-blind safe palette (https://jfly.uni-koeln.de/color/).
_COLOURS = (
    (213, 94, 0),
    (0, 114, 178),
    (0, 158, 115),
    (204, 121, 167),
    (230, 159, 0),
    (86, 180, 233),
    (240, 228, 66),
)
_LEAST_SIDE = 224
"""Minimum length of the longer side in pixels; smaller images are enlarged for readable labels."""


def draw_boxes(
    image: Any,
    boxes: Sequence[Box],
    *,
    labels: bool = True,
    font: str | Path | None = None,
) -> Image.Image:
    """Draw boxes and their labels on a copy of an image.

    Line width and letter size scale with the image. An image whose longer side is under 224 pixels
    is enlarged by an integer factor first. Labels do not overlap each other where possible, and are
    above their box if there is room.

    Args:
        image: The image of the boxes: a PIL image, a path, a URL, bytes, a binary file object or a
            uint8 array [height, width, 3]. It is drawn without EXIF rotation, grey of more than 8
            bits scaled, transparency on white (on black where nothing would be seen on white).
        boxes: The boxes; boxes with the same label have the same colour.
        labels: Whether to draw labels.
        font: A font file, or the name of an installed font; None: Pillow's own font. Labels with
            characters that it lacks use an installed font that has them.

    Returns:
        An RGB image.

    Raises:
        OSError: The font cannot be opened, or the file of the image does not exist.
        MediaError: The image cannot be read, is damaged, or exceeds a limit of `MediaPolicy()`.

    Warns:
        UserWarning: No installed font has some characters; they are drawn as "?".
    """
    drawn = _rgb(image)
    times = max(1, -(-_LEAST_SIDE // max(drawn.size)))
    drawn = drawn.resize((drawn.width * times, drawn.height * times), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(drawn)
    unit = (drawn.width * drawn.height) ** 0.5
    line, letters = max(2, round(unit / 180)), max(11, round(unit / 32))
    fonts = LabelFonts(letters, font)
    names = list(dict.fromkeys(box.label for box in boxes))
    taken: list[Rectangle] = []
    for box in boxes:
        colour = _COLOURS[names.index(box.label) % len(_COLOURS)]
        place = _pixels(box, drawn.size)
        halo = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        draw.rectangle(_grown(place, 1, drawn.size), outline=halo, width=line + 2)
        draw.rectangle(place, outline=colour, width=line)
    for box in boxes:
        if not (labels and box.label):
            continue
        colour = _COLOURS[names.index(box.label) % len(_COLOURS)]
        type_, text = fonts.font_for(box.label)
        text = _shortened(text, type_, drawn.width - 4)
        spot = _free_spot(_pixels(box, drawn.size), _extent(text, type_), drawn.size, taken)
        taken.append(spot)
        draw.rectangle(spot, fill=colour)
        ink = (0, 0, 0) if sum(colour) > 380 else (255, 255, 255)
        middle = (spot[0] + spot[2]) / 2, (spot[1] + spot[3]) / 2
        draw.text(middle, text, fill=ink, font=type_, anchor="mm")
    if fonts.missing:
        warnings.warn(
            f"no font here has {' '.join(fonts.missing)}, drawn as ?; give draw_boxes(font=...) a "
            "file that has them (Noto Sans CJK has Chinese, Japanese and Korean), or install it",
            stacklevel=2,
        )
    return drawn


def _rgb(image: Any) -> Image.Image:
    source = to_source(image, "draw_boxes()")
    if isinstance(source, PathSource):
        source.path.stat()  # FileNotFoundError, as of Pillow
    return load_rgb(source, MediaPolicy(), scale_16bit=True, white_background=True)


def _pixels(box: Box, size: tuple[int, int]) -> Rectangle:
    """Corners in pixels of the drawn image; the last pixel is included."""
    width, height = size
    left, top = round(box.x1 * width / 1000), round(box.y1 * height / 1000)
    right, bottom = round(box.x2 * width / 1000) - 1, round(box.y2 * height / 1000) - 1
    return min(left, width - 1), min(top, height - 1), max(left, right), max(top, bottom)


def _grown(place: Rectangle, by: int, size: tuple[int, int]) -> Rectangle:
    left, top, right, bottom = place
    return (
        max(0, left - by),
        max(0, top - by),
        min(size[0] - 1, right + by),
        min(size[1] - 1, bottom + by),
    )


def _extent(text: str, font: Font) -> tuple[int, int]:
    left, top, right, bottom = font.getbbox(text)
    return round(right - left) + 6, round(bottom - top) + 6


def _shortened(text: str, font: Font, width: int) -> str:
    """A label as one line, cut to the width of the image and to 100 characters."""
    text = " ".join(text[:400].split())
    short = text[:100]
    while len(short) > 1 and _extent(short if short == text else f"{short}…", font)[0] > width:
        short = short[:-1]
    return short if short == text else f"{short}…"


def _free_spot(
    place: Rectangle, extent: tuple[int, int], size: tuple[int, int], taken: Sequence[Rectangle]
) -> Rectangle:
    """Position of a label: above its box, inside, below or beside it, free of other labels.

    In a box that is not much higher than the label, the inside comes last: it would hide the box.
    """
    left, top, right, bottom = place
    wide, high = extent
    inside, outside = [(left, top), (left, bottom - high)], [(right + 1, top), (left - wide, top)]
    below = [(left, bottom + 1)]
    is_small = 2 * high > bottom - top
    wishes = [(left, top - high), *inside[:1], *below, *inside[1:], *outside]
    if is_small:
        wishes = [(left, top - high), *below, *outside, *inside]
    wishes += [(left, y) for y in range(top, size[1] - high, high)]
    wishes += [(left, y) for y in range(top, 0, -high)]
    spots = []
    for x, y in wishes:
        x = max(0, min(x, size[0] - wide - 1))  # noqa: PLW2901 (moved into the picture)
        if 0 <= y <= max(0, size[1] - high - 1):
            spots.append((x, y, x + wide, y + high))
    spots = spots or [(0, 0, wide, high)]
    free = [spot for spot in spots if not any(_touch(spot, other) for other in taken)]
    return (free or spots)[0]


def _touch(one: Rectangle, other: Rectangle) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
