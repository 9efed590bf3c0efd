r"""Four numbers as the corners of a box: how they are written and what they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

NUMBER = r"[-+]?(?:\d{1,9}(?:\.\d{0,17})?|\.\d{1,17})(?:[eE][-+]?\d{1,2})?"
SEP = r"(?:\s{0,99}[,;|]\s{0,99}|\s{1,99})"
OPEN, CLOSE = r"\\?[\[({]\s{0,99}", r"\s{0,99}(?:[,;]\s{0,99})?\\?[\])}]"
"""Brackets of any kind, also as LaTeX and Markdown escape them, after a comma too many."""

BOX_KEYS = r"b?box(?:_?2d|es)?|b?boxes_?2d|bounding[_ ]?box(?:es)?|coordinates|coords|xyxy"
"""Keys of boxes, as alternatives of a pattern without regard to case."""

FOUR_NUMBERS = SEP.join([f"({NUMBER})"] * 4)

_SAME_KEYS = {
    "x1": ("xmin", "minx", "xtl", "xleft", "xstart", "startx", "left", "topleftx", "upperleftx"),
    "y1": ("ymin", "miny", "ytl", "ytop", "ystart", "starty", "top", "toplefty", "upperlefty"),
    "x2": ("xmax", "maxx", "xbr", "xright", "xend", "endx", "right", "bottomrightx", "lowerrightx"),
    "y2": (
        "ymax", "maxy", "ybr", "ybottom", "yend", "endy", "bottom", "bottomrighty", "lowerrighty",
    ),
    "cx": ("centerx", "centrex", "xcenter", "xcentre"),
    "cy": ("centery", "centrey", "ycenter", "ycentre"),
    "w": ("width",),
    "h": ("height",),
}  # fmt: skip
ROLES = {other: role for role, others in _SAME_KEYS.items() for other in (role, *others)}


@dataclass(frozen=True)
class Found:
    """A candidate for a box in a text.

    Attributes:
        start: Start of the match, in characters.
        end: End of the match, in characters.
        numbers: left, top, right, bottom as written; empty if the match is not a box.
        problem: Why the match is not a box; "" if it may be one.
        repairs: Notes on how an ambiguous match was read.
        is_object: Whether the box has its own JSON object.
        label: Label that the format itself gives; None: see `labels`.
    """

    start: int
    end: int
    numbers: tuple[str, ...] = ()
    problem: str = ""
    repairs: tuple[str, ...] = ()
    is_object: bool = False
    label: str | None = None


def corners_of(named: Mapping[str, str]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """The corners of named numbers, and notes on how they were read; None: they make no box.

    Args:
        named: Numbers by name, such as `x_min`, `left`, `cx` or `width`, in lower case.
    """
    plain = {re.sub("[_-]", "", name): value for name, value in named.items()}
    if "x0" in plain:  # corners numbered from 0
        counted = {"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}
        plain = {counted.get(key, key): value for key, value in plain.items()}
    values = {ROLES.get(key, key): value for key, value in plain.items()}
    if {"x1", "y1", "x2", "y2"} <= values.keys():
        return tuple(values[key] for key in ("x1", "y1", "x2", "y2")), ()
    if not {"w", "h"} <= values.keys():
        return None
    for across, down, shift, words in (
        ("cx", "cy", 0.5, "middle, width and height"),
        ("x", "y", 0.0, "left, top, width and height"),
        ("x1", "y1", 0.0, "left, top, width and height"),
    ):
        if {across, down} <= values.keys():
            x, y, w, h = (float(values[key]) for key in (across, down, "w", "h"))
            x, y = x - shift * w, y - shift * h
            # Decimals stay decimals: shares of 1 are known by them.
            corners = (x, y, x + w, y + h)
            is_whole = not any("." in values[key] for key in (across, down, "w", "h"))
            numbers = tuple(f"{one:g}" if is_whole else f"{one:.9f}" for one in corners)
            return numbers, (f"read as {words}",)
    return None
