r"""Formats in which models write boxes, as one table of finders.

Text is matched, never evaluated, and each pattern is bounded, so matching takes linear time. A
finder yields `Found`: four numbers in the order left, top, right, bottom, or the reason why the
match is not a box.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence

from langchain_internvl.grounding.corners import (
    BOX_KEYS,
    CLOSE,
    FOUR_NUMBERS,
    NUMBER,
    OPEN,
    ROLES,
    SEP,
    Found,
    corners_of,
)
from langchain_internvl.grounding.tables import find_in_tables

_FOUR = re.compile(f"{OPEN}{FOUR_NUMBERS}{CLOSE}")
_TAGGED = re.compile(
    rf"(?:<b?box>|<\|box_start\|>)\s{{0,99}}{FOUR_NUMBERS}"
    r"\s{0,99}(?:</b?box>|<\|box_end\|>|(?=<)|$)"
)
_AFTER_KEY = re.compile(
    r"(?<![A-Za-z0-9_])(?:b?box(?:_?2d)?|bounding[_ ]?box|coordinates|coords|xyxy)[\"']?"
    rf"\s{{0,99}}[:=]\s{{0,99}}[\"']?(?P<box>{FOUR_NUMBERS})(?!\s{{0,99}}(?:[,;]\s{{0,99}})?[-+.\d%]|px)",
    re.IGNORECASE,
)
_QUOTED = OPEN + SEP.join([rf"[\"']({NUMBER})[\"']"] * 4) + CLOSE
_ONE_QUOTED = re.compile(_QUOTED)
_QUOTED_BOXES = re.compile(
    rf"(?:<b?box>|(?<![A-Za-z0-9_])(?:{BOX_KEYS})[\"']?\s{{0,99}}[:=])\s{{0,99}}(?:\[\s{{0,99}})?"
    rf"(?P<boxes>{_QUOTED}(?:\s{{0,99}},\s{{0,99}}{_QUOTED}){{0,200}})".replace(
        f"({NUMBER})", NUMBER
    ),
    re.IGNORECASE,
)
"""Boxes whose numbers are in quotes, after a key or a tag: other lists of such numbers are none."""
_COMMAS = r"\s{0,99},\s{0,99}".join([f"({NUMBER})"] * 4)
_ONE_LISTED = re.compile(_COMMAS)
_FENCE = r"(?:`{3,9}|~{3,9})"
_ALONE = re.compile(
    rf"\s{{0,99}}(?:{_FENCE}\w{{0,20}}[ \t]{{0,9}}\n)?[\s`*]{{0,99}}{FOUR_NUMBERS}"
    rf"[.\s`*]{{0,99}}(?:{_FENCE}\s{{0,99}})?"
)
"""A reply of four numbers, in code or emphasis too."""

_POINT = f"{OPEN}({NUMBER}){SEP}({NUMBER}){CLOSE}"
_KEY_BETWEEN = r"(?:[\"']?[A-Za-z][A-Za-z_ -]{0,20}[\"']?\s{0,3}[:=]\s{0,3})?"
_CORNER_BETWEEN = (
    r"(?:(?:and\s)?\s?(?:bottom|lower)[ _-]?right(?:\scorner)?(?:\s(?:at|is))?\s"
    r"|(?:和|到|至)?(?:右下角?(?:的?坐标)?(?:为|是|在)?:?\s?)?)?"
)
_SIZE_KEY = r"[\"']?\b(?:size|dim(?:ension)?s?|extent|wh)[\"']?\s{0,3}[:=]?\s{0,3}"
_TO = (
    r"\s{0,99}(?:(?:,|;|to\b|->|→|-|–)\s{0,99})?"
    rf"(?!{_SIZE_KEY})(?:{_KEY_BETWEEN}|{_CORNER_BETWEEN})"
)
_CORNERS = re.compile(f"{_POINT}{_TO}{_POINT}")
_ANCHOR = r"[\"']?\b(?P<from>[A-Za-z_-]{1,20})[\"']?\s{0,3}"
_BETWEEN_POINTS = r"\s{0,99}(?:[,;]\s{0,99})?"
_SIZED = re.compile(
    rf"{_ANCHOR}[:=]?\s{{0,3}}{_POINT}{_BETWEEN_POINTS}{_SIZE_KEY}{_POINT}", re.IGNORECASE
)
_SIZE_FIRST = re.compile(
    rf"{_SIZE_KEY}{_POINT}{_BETWEEN_POINTS}{_ANCHOR}[:=]\s{{0,3}}{_POINT}", re.IGNORECASE
)
_MIDDLE = re.compile(r"cent(?:er|re|roid)|middle|(?<![a-z])(?:mid|c|c_?xy|cxcy)$", re.IGNORECASE)
_OTHER_CORNER = re.compile(
    r"bottom|lower|(?:top|upper|(?<![a-z]))[ _-]?right|(?<![a-z])(?:end|max|br|tr|bl)$",
    re.IGNORECASE,
)
"""Words of a point that is neither the middle of a box nor its top left corner."""
_LISTED = re.compile(
    rf"{OPEN}{_COMMAS}(?:\s{{0,99}};\s{{0,99}}{_COMMAS}){{1,200}}{CLOSE}".replace(
        f"({NUMBER})", NUMBER
    )
)
_RANGES = re.compile(
    rf"[\"']?\b(?P<first>[xy])(?:_?range)?[\"']?\s{{0,3}}[:=]\s{{0,3}}{_POINT}{_BETWEEN_POINTS}"
    rf"[\"']?(?!(?P=first))[xy](?:_?range)?[\"']?\s{{0,3}}[:=]\s{{0,3}}{_POINT}",
    re.IGNORECASE,
)
_FOUR_COORDS = r"\s{0,99}(?:,\s{0,99})?".join([r"<COORD_(\d{1,4})>"] * 4)
_COORDS = re.compile(rf"(?:<box>\s{{0,99}})?{_FOUR_COORDS}(?:\s{{0,99}}</box>)?")
_BRACKETED = re.compile(
    rf"(?:<box>|\{{)\s{{0,99}}{_FOUR_COORDS.replace('<COORD_', '<')}"
    r"(?:\s{0,99}(?:</box>|\})|(?=<)|$)"
)
_ANY_POINT = _POINT.replace(f"({NUMBER})", NUMBER)
_POLYGON = re.compile(rf"{_ANY_POINT}(?:\s{{0,99}}(?:,\s{{0,99}})?{_ANY_POINT}){{2,400}}")

_XY = (
    rf"\{{\s{{0,99}}[\"']?x[\"']?\s{{0,99}}[:=]\s{{0,99}}{NUMBER}\s{{0,99}},\s{{0,99}}"
    rf"[\"']?y[\"']?\s{{0,99}}[:=]\s{{0,99}}{NUMBER}\s{{0,99}}\}}"
)
_POINT_OBJECTS = re.compile(rf"{_XY}(?:[^{{}}]{{0,30}}{_XY}){{1,400}}")

_NAME = (
    r"(?:top|upper)[_-]?left[_-]?[xy]|(?:bottom|lower)[_-]?right[_-]?[xy]"
    r"|[xy][_-]?(?:[012]|min|max|tl|br|left|right|top|bottom|start|end|center|centre)"
    r"|(?:min|max|start|end|center|centre|c)[_-]?[xy]"
    r"|left|top|right|bottom|width|height|[xywh]"
)
_PAIR = re.compile(
    rf"(?<![A-Za-z0-9_])[\"'*`]{{0,2}}({_NAME})[\"'*`]{{0,2}}\s{{0,99}}[:=]\*{{0,2}}\s{{0,99}}"
    rf"[\"'`]?({NUMBER})(?![\d.%\w])[\"'`]?",
    re.IGNORECASE,
)
_ELEMENT = re.compile(rf"<({_NAME})>\s{{0,99}}({NUMBER})\s{{0,99}}</(?:{_NAME})>", re.IGNORECASE)
"""An element of XML, as in the annotations of Pascal VOC."""
_POINTS = re.compile(r"<points?\s[^<>]{0,200}$")
_BETWEEN_PAIRS = re.compile(
    r"[\s,;*•-]{0,12}(?:[\"']\w{1,20}[\"']\s{0,3}:\s{0,3}[\"'][^\"'\n]{0,100}[\"'][\s,;]{1,9}){0,3}"
)

_NARROW = str.maketrans("，、；：（）［］【】｛｝＜＞＝－．　", ",,;:()[][]{}<>=-. ")
"""Chinese and Japanese punctuation mapped to ASCII, one character to one."""

_YX_BOXES = re.compile(
    r"(?<![A-Za-z0-9_])box_?2d[\"'*`]{0,3}\s{0,99}[:=]\*{0,2}"
    r"(?:[\s\[\](){,;|\d.+\"'-]{1,200000}|null|None|e[-+]?\d){0,20000}",
    re.IGNORECASE,
)
"""Gemini's key and its boxes, each of which is top, left, bottom, right."""


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
        order = _Order(text)
        for match in pattern.finditer(text):
            yield _in_order(match, order, "box" if "box" in pattern.groupindex else 0)

    return find


class _Order:
    """The order of the numbers in the boxes of a text, which the key before them tells.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self._spans = [match.span() for match in _YX_BOXES.finditer(text)]

    def is_yx(self, place: int) -> bool:
        """Whether a box at a place of the text is top, left, bottom, right."""
        index = bisect_right(self._spans, place, key=lambda span: span[0]) - 1
        return index >= 0 and place < self._spans[index][1]


def _in_order(match: re.Match[str], order: _Order, group: str | int = 0) -> Found:
    """Four numbers in the order left, top, right, bottom."""
    left, top, right, bottom = match.groups()[-4:]
    start, end = match.span(group)
    repairs: tuple[str, ...] = ()
    if order.is_yx(start):
        left, top, right, bottom = top, left, bottom, right
        repairs = ("read as top, left, bottom, right (Gemini's box_2d)",)
    return Found(start, end, (left, top, right, bottom), repairs=repairs)


def _quoted(text: str) -> Iterator[Found]:
    """Boxes of numbers in quotes: `{"bbox_2d": ["1", "2", "3", "4"]}`."""
    order = _Order(text)
    for match in _QUOTED_BOXES.finditer(text):
        for one in _ONE_QUOTED.finditer(text, *match.span("boxes")):
            yield _in_order(one, order)


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


def _sized(text: str) -> Iterator[Found]:
    """A point and a size: `center: [100, 200], size: [20, 40]`, in either order."""
    for match in _SIZED.finditer(text):
        _, x, y, w, h = match.groups()
        yield from _of_size(match, (x, y, w, h))
    for match in _SIZE_FIRST.finditer(text):
        w, h, _, x, y = match.groups()
        yield from _of_size(match, (x, y, w, h))


def _of_size(match: re.Match[str], numbers: Sequence[str]) -> Iterator[Found]:
    """The box of a point, whose name and the words before it say which one it is, and a size."""
    start, end = match.span("from")
    words = _CLAUSE_END.split(match.string[max(0, start - 40) : end])[-1]
    names = ("cx", "cy") if _MIDDLE.search(words) else ("x", "y")
    corners = corners_of(dict(zip((*names, "w", "h"), numbers, strict=True)))
    if names == ("x", "y") and _OTHER_CORNER.search(words):
        yield Found(*match.span(), problem="a size, and a corner that is not the top left one")
    elif corners is not None:
        yield Found(*match.span(), corners[0], repairs=corners[1], is_object=True)


def _listed(text: str) -> Iterator[Found]:
    """Several boxes in one bracket, as of CogVLM and Shikra: `[[1, 2, 3, 4; 5, 6, 7, 8]]`."""
    order = _Order(text)
    for match in _LISTED.finditer(text):
        for one in _ONE_LISTED.finditer(text, *match.span()):
            yield _in_order(one, order)


def _point_objects(text: str) -> Iterator[Found]:
    """Corners as objects: `{"x": 1, "y": 2}, {"x": 3, "y": 4}`."""
    for match in _POINT_OBJECTS.finditer(text):
        numbers = tuple(pair[2] for pair in _PAIR.finditer(match.group()))
        if len(numbers) == 4:
            yield Found(*match.span(), numbers, is_object=True)
        else:
            yield Found(*match.span(), problem="a polygon, not a box", is_object=True)


def _keyed_by(pattern: re.Pattern[str]) -> Callable[[str], Iterator[Found]]:
    """A finder of corners by name: `{"x1": 1, "y1": 2, ...}`, `left=1, top=2, width=3, ...`."""

    def find(text: str) -> Iterator[Found]:
        group: list[re.Match[str]] = []
        for match in pattern.finditer(text):
            key = match[1].lower()
            goes_on = group and _BETWEEN_PAIRS.fullmatch(text, group[-1].end(), match.start())
            if group and (not goes_on or any(one[1].lower() == key for one in group)):
                yield from _named(group)
                group = []
            group.append(match)
        yield from _named(group)

    return find


def _named(pairs: Sequence[re.Match[str]]) -> Iterator[Found]:
    """The box of named numbers; nothing for a single number."""
    if len(pairs) < 2:
        return
    start, end = pairs[0].start(), pairs[-1].end()
    text = pairs[0].string
    if _POINTS.search(text, max(0, start - 200), start):
        yield Found(start, end, problem="points, not a box", is_object=True)
        return
    corners = corners_of({pair[1].lower(): pair[2] for pair in pairs})
    if corners is not None:
        yield Found(start, end, corners[0], repairs=corners[1], is_object=True)
        return
    roles = {
        ROLES.get(name, name) for name in (re.sub("[_-]", "", pair[1].lower()) for pair in pairs)
    }
    if len(pairs) > 2 or {"x1", "y1"} <= roles or {"x", "y"} <= roles:
        named = ", ".join(pair[1] for pair in pairs)
        yield Found(start, end, problem=f"{named} alone make no box", is_object=True)


_CLAUSE_END = re.compile(r"[.,;:{}\[\]()\n]")

_FINDERS: tuple[Callable[[str], Iterator[Found]], ...] = (
    find_in_tables,
    _polygons,
    _listed,
    _sized,
    _numbers_of(_FOUR),
    _numbers_of(_CORNERS),
    _numbers_of(_COORDS),
    _numbers_of(_BRACKETED),
    _numbers_of(_TAGGED),
    _numbers_of(_AFTER_KEY),
    _quoted,
    _ranges,
    _point_objects,
    _keyed_by(_PAIR),
    _keyed_by(_ELEMENT),
)
