r"""Formats in which models write boxes, as one table of finders.

Text is matched, never evaluated, and each pattern is bounded, so matching takes linear time. A
finder yields `Found`: four numbers in the order left, top, right, bottom, or the reason why the
match is not a box.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

NUMBER = r"[-+]?(?:\d{1,9}(?:\.\d{0,17})?|\.\d{1,17})(?:[eE][-+]?\d{1,2})?"
_SEP = r"(?:\s{0,9}[,;|]\s{0,9}|\s{1,9})"
_OPEN, _CLOSE = r"\\?[\[({]\s{0,9}", r"\s{0,9}[,;]?\s{0,9}\\?[\])}]"
"""Brackets of any kind, also as LaTeX and Markdown escape them, after a comma too many."""

_FOUR_NUMBERS = _SEP.join([f"({NUMBER})"] * 4)
_FOUR = re.compile(f"{_OPEN}{_FOUR_NUMBERS}{_CLOSE}")
_TAGGED = re.compile(
    rf"(?:<b?box>|<\|box_start\|>)\s{{0,9}}{_FOUR_NUMBERS}"
    r"\s{0,9}(?:</b?box>|<\|box_end\|>|(?=<)|$)"
)
_AFTER_KEY = re.compile(
    r"(?<![A-Za-z0-9_])(?:b?box(?:_?2d)?|bounding[_ ]?box|coordinates|coords|xyxy)[\"']?"
    rf"\s{{0,3}}[:=]\s{{0,3}}[\"']?(?P<box>{_FOUR_NUMBERS})(?!\s{{0,9}}[,;]?\s{{0,9}}[-+.\d%]|px)",
    re.IGNORECASE,
)
_ALONE = re.compile(rf"\s{{0,99}}{_FOUR_NUMBERS}[.\s]{{0,99}}")

_POINT = f"{_OPEN}({NUMBER}){_SEP}({NUMBER}){_CLOSE}"
_KEY_BETWEEN = r"(?:[\"']?[A-Za-z][A-Za-z_ -]{0,20}[\"']?\s{0,3}[:=]\s{0,3})?"
_CORNER_BETWEEN = r"(?:(?:and\s)?\s?(?:bottom|lower)[ _-]?right(?:\scorner)?(?:\s(?:at|is))?\s)?"
_TO = rf"\s{{0,9}}(?:,|;|to\b|->|→|-|–)?\s{{0,9}}(?:{_KEY_BETWEEN}|{_CORNER_BETWEEN})"
_CORNERS = re.compile(f"{_POINT}{_TO}{_POINT}")
_RANGES = re.compile(
    rf"[\"']?\b(?P<first>[xy])(?:_?range)?[\"']?\s{{0,3}}[:=]\s{{0,3}}{_POINT}\s{{0,9}}[,;]?\s{{0,9}}"
    rf"[\"']?(?!(?P=first))[xy](?:_?range)?[\"']?\s{{0,3}}[:=]\s{{0,3}}{_POINT}",
    re.IGNORECASE,
)
_FOUR_COORDS = r"\s{0,9},?\s{0,9}".join([r"<COORD_(\d{1,4})>"] * 4)
_COORDS = re.compile(rf"(?:<box>\s{{0,9}})?{_FOUR_COORDS}(?:\s{{0,9}}</box>)?")
_BRACKETED = re.compile(
    rf"<box>\s{{0,9}}{_FOUR_COORDS.replace('<COORD_', '<')}(?:\s{{0,9}}</box>|(?=<)|$)"
)
_ANY_POINT = _POINT.replace(f"({NUMBER})", NUMBER)
_POLYGON = re.compile(rf"{_ANY_POINT}(?:\s{{0,9}},?\s{{0,9}}{_ANY_POINT}){{2,400}}")

_XY = (
    rf"\{{\s{{0,9}}[\"']?x[\"']?\s{{0,3}}[:=]\s{{0,3}}{NUMBER}\s{{0,9}},\s{{0,9}}"
    rf"[\"']?y[\"']?\s{{0,3}}[:=]\s{{0,3}}{NUMBER}\s{{0,9}}\}}"
)
_POINT_OBJECTS = re.compile(rf"{_XY}(?:[^{{}}]{{0,30}}{_XY}){{1,400}}")

_PAIR = re.compile(
    r"(?<![A-Za-z0-9_])[\"']?("
    r"(?:top|upper)[_-]?left[_-]?[xy]|(?:bottom|lower)[_-]?right[_-]?[xy]"
    r"|[xy][_-]?(?:[012]|min|max|tl|br|left|right|top|bottom|start|end|center|centre)"
    r"|(?:min|max|start|end|center|centre|c)[_-]?[xy]"
    r"|left|top|right|bottom|width|height|[xywh]"
    rf")[\"']?\s{{0,3}}[:=]\s{{0,3}}[\"']?({NUMBER})(?![\d.%\w])[\"']?",
    re.IGNORECASE,
)
_BETWEEN_PAIRS = re.compile(
    r"[\s,;]{1,9}(?:[\"']\w{1,20}[\"']\s{0,3}:\s{0,3}[\"'][^\"'\n]{0,100}[\"'][\s,;]{1,9}){0,3}"
)

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
_ROLES = {other: role for role, others in _SAME_KEYS.items() for other in (role, *others)}

_NARROW = str.maketrans("，、；：（）［］【】｛｝＜＞＝－．　", ",,;:()[][]{}<>=-. ")
"""Chinese and Japanese punctuation mapped to ASCII, one character to one."""

_YX_KEY = re.compile(r"[\"']box_2d[\"']\s{0,3}:\s{0,3}[\"']?\[{0,2}$")
"""Gemini's key, whose boxes are top, left, bottom, right."""


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
    """

    start: int
    end: int
    numbers: tuple[str, ...] = ()
    problem: str = ""
    repairs: tuple[str, ...] = ()
    is_object: bool = False


def find_boxes(text: str) -> list[Found]:
    """All candidates for boxes in a text, from left to right, without overlaps."""
    text = text.translate(_NARROW)
    alone = _ALONE.fullmatch(text)
    if alone:
        return [Found(*alone.span(), alone.groups())]
    found = sorted(
        (one for finder in _FINDERS for one in finder(text)), key=lambda one: (one.start, -one.end)
    )
    kept: list[Found] = []
    for one in found:
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


def _numbers_of(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Found]]:
    """A finder of four numbers in the order of a box."""

    def find(text: str) -> Iterator[Found]:
        for match in pattern.finditer(text):
            left, top, right, bottom = match.groups()[-4:]
            start, end = match.span("box" if "box" in pattern.groupindex else 0)
            repairs: tuple[str, ...] = ()
            if _YX_KEY.search(text, max(0, start - 40), start):
                left, top, right, bottom = top, left, bottom, right
                repairs = ("read as top, left, bottom, right (Gemini's box_2d)",)
            yield Found(start, end, (left, top, right, bottom), repairs=repairs)

    return find


def _ranges(text: str) -> Iterator[Found]:
    """Ranges of both axes: `{"x": [1, 3], "y": [2, 4]}`."""
    for match in _RANGES.finditer(text):
        low, high, other_low, other_high = match.groups()[1:]
        numbers = (low, other_low, high, other_high)
        if match["first"].lower() == "y":
            numbers = (other_low, low, other_high, high)
        repairs = ("read as a range of x and one of y",)
        yield Found(*match.span(), numbers, repairs=repairs, is_object=True)


def _polygons(text: str) -> Iterator[Found]:
    for match in _POLYGON.finditer(text):
        yield Found(*match.span(), problem="a polygon, not a box")


def _point_objects(text: str) -> Iterator[Found]:
    """Corners as objects: `{"x": 1, "y": 2}, {"x": 3, "y": 4}`."""
    for match in _POINT_OBJECTS.finditer(text):
        numbers = tuple(pair[2] for pair in _PAIR.finditer(match.group()))
        if len(numbers) == 4:
            yield Found(*match.span(), numbers, is_object=True)
        else:
            yield Found(*match.span(), problem="a polygon, not a box", is_object=True)


def _keyed(text: str) -> Iterator[Found]:
    """Corners by name: `{"x1": 1, "y1": 2, "x2": 3, "y2": 4}`, `left=1, top=2, width=3, ...`."""
    group: list[re.Match[str]] = []
    for match in _PAIR.finditer(text):
        key = match[1].lower()
        goes_on = group and _BETWEEN_PAIRS.fullmatch(text, group[-1].end(), match.start())
        if group and (not goes_on or any(one[1].lower() == key for one in group)):
            yield from _named(group)
            group = []
        group.append(match)
    yield from _named(group)


def _named(pairs: Sequence[re.Match[str]]) -> Iterator[Found]:
    """The box of named numbers; nothing for a single number."""
    if len(pairs) < 2:
        return
    start, end = pairs[0].start(), pairs[-1].end()
    plain = {re.sub("[_-]", "", pair[1].lower()): pair[2] for pair in pairs}
    if "x0" in plain:  # corners numbered from 0
        counted = {"x0": "x1", "y0": "y1", "x1": "x2", "y1": "y2"}
        plain = {counted.get(key, key): value for key, value in plain.items()}
    values = {_ROLES.get(key, key): value for key, value in plain.items()}
    if {"x1", "y1", "x2", "y2"} <= values.keys():
        numbers = tuple(values[key] for key in ("x1", "y1", "x2", "y2"))
        yield Found(start, end, numbers, is_object=True)
        return
    if {"w", "h"} <= values.keys():
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
                yield Found(start, end, numbers, repairs=(f"read as {words}",), is_object=True)
                return
    if len(pairs) > 2 or {"x1", "y1"} <= values.keys() or {"x", "y"} <= values.keys():
        named = ", ".join(pair[1] for pair in pairs)
        yield Found(start, end, problem=f"{named} alone make no box", is_object=True)


_FINDERS: tuple[Callable[[str], Iterator[Found]], ...] = (
    _polygons,
    _numbers_of(_FOUR),
    _numbers_of(_CORNERS),
    _numbers_of(_COORDS),
    _numbers_of(_BRACKETED),
    _numbers_of(_TAGGED),
    _numbers_of(_AFTER_KEY),
    _ranges,
    _point_objects,
    _keyed,
)
