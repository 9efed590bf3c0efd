"""Boxes in Markdown tables: a column of boxes, columns of corners, or a column for each number.

A table has a header and a delimiter row (GitHub Flavored Markdown, section 4.10). Numbers without
brackets are read only in columns whose headers name them, so that other tables yield no boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from langchain_internvl.grounding.corners import (
    CLOSE,
    FOUR_NUMBERS,
    NUMBER,
    OPEN,
    ROLES,
    SEP,
    Found,
    corners_of,
)

_LINE = re.compile(r"[^\n]*\n?")
_PREFIX = "> \t\r\f\v"
"""Indentation and marks of block quotes before a row."""
_PIPE = re.compile(r"(?<!\\)\|")
_DELIMITER = re.compile(r"\s*:?-+:?\s*")
_UNIT = re.compile(r"\s*\([^()]{0,20}\)$")
_MARKUP = "*`_~ \t"
_TAG = re.compile(r"</?\w{1,10}\s?/?>")

_BOXES = re.compile(
    r"\b(?:b(?:ounding)?[ _-]?box(?:es)?|box(?:es)?(?:[ _-]?2d)?|coord(?:inate)?s?|xyxy"
    r"|rect(?:angle)?s?)\b|bbox",
    re.IGNORECASE,
)
"""Headers of a column whose cells are boxes."""

_PLACES = re.compile(r"\b(?:area|location|place|position|region)s?\b", re.IGNORECASE)
"""The same in tables without one of those; other tables have names of places there."""

_ORDER = re.compile(
    r"[\[({]?\s{0,99}([a-z]\w{0,11}(?:\s{0,99}[,;]\s{0,99}[a-z]\w{0,11}){3})\s{0,99}[\])}]?$"
)
"""The names of four numbers at the end of a header: `Box [ymin, xmin, ymax, xmax]`."""

_FIRST = frozenset({"topleft", "upperleft", "lefttop", "tl", "topleftcorner", "upperleftcorner"})
_SECOND = frozenset(
    {"bottomright", "lowerright", "rightbottom", "br", "bottomrightcorner", "lowerrightcorner"}
)

_NAMED = frozenset({*ROLES, "x", "y", "x0", "y0"})
_LABELS = frozenset(
    {
        "category", "class", "element", "entity", "feature", "item", "label", "name", "object",
        "phrase", "ref", "text", "thing", "what",
    }
)  # fmt: skip
_NUMBERS = frozenset({"", "confidence", "id", "index", "no", "no.", "nr", "number", "row", "score"})
"""Headers of columns whose cells are no labels."""

_ONE = re.compile(rf"\s{{0,99}}({NUMBER})\s{{0,99}}")
_FOUR = re.compile(f"{OPEN}{FOUR_NUMBERS}{CLOSE}")
_BARE = re.compile(rf"\s{{0,99}}{FOUR_NUMBERS}\s{{0,99}}")
_PAIR = re.compile(rf"\s{{0,99}}(?:{OPEN})?({NUMBER}){SEP}({NUMBER})(?:{CLOSE})?\s{{0,99}}")


@dataclass(frozen=True)
class _Cell:
    start: int
    text: str

    @property
    def end(self) -> int:
        return self.start + len(self.text)


_Row = Sequence[_Cell]


def find_in_tables(text: str) -> Iterator[Found]:
    """The boxes in the rows of tables."""
    for header, rows in _tables(text):
        table = _Table([_plain(cell.text) for cell in header])
        for row in rows:
            yield from table.boxes([*row, *[_Cell(row[-1].end, "")] * (len(header) - len(row))])


def without_headers(text: str) -> str:
    """The text with spaces in place of the headers of tables, which may look like templates."""
    for header, _ in list(_tables(text)):
        start, end = header[0].start, header[-1].end
        text = text[:start] + " " * (end - start) + text[end:]
    return text


def _tables(text: str) -> Iterator[tuple[_Row, list[_Row]]]:
    """The header and the rows of each table."""
    before: _Row = ()
    header: _Row = ()
    rows: list[_Row] = []
    for line in _LINE.finditer(text):
        cells = _cells(line.group().rstrip("\n"), line.start())
        if header and cells:
            rows.append(cells)
            continue
        if header:
            yield header, rows
            header, rows = (), []
        is_delimiter = cells and all(_DELIMITER.fullmatch(cell.text) for cell in cells)
        if is_delimiter and len(cells) == len(before):
            header = before
        before = cells
    if header:
        yield header, rows


def _cells(line: str, start: int) -> _Row:
    """The cells of a row; empty for a line that is none."""
    place = len(line) - len(line.lstrip(_PREFIX))
    line = line.rstrip()
    pipes = [one.start() for one in _PIPE.finditer(line, place)]
    if not pipes:
        return ()
    edges = [place - 1, *pipes, len(line)]
    if pipes[0] == place:
        edges = edges[1:]
    if pipes[-1] == len(line) - 1:
        edges = edges[:-1]
    return [_Cell(start + left + 1, line[left + 1 : right]) for left, right in pairwise(edges)]


def _plain(header: str) -> str:
    return _TAG.sub("", header).strip(_MARKUP)


def _name(header: str) -> str:
    return re.sub(r"[\s_-]", "", _UNIT.sub("", header)).lower()


class _Table:
    """What the columns of a table hold.

    Args:
        headers: Texts of the header.
    """

    def __init__(self, headers: Sequence[str]) -> None:
        names = [_name(header) for header in headers]
        self._numbers = {name: place for place, name in enumerate(names) if name in _NAMED}
        if corners_of(dict.fromkeys(self._numbers, "0")) is None:
            self._numbers = {}
        first = next((place for place, name in enumerate(names) if name in _FIRST), None)
        second = next((place for place, name in enumerate(names) if name in _SECOND), None)
        self._corners = None if first is None or second is None else (first, second)
        self._orders = {}
        if not self._numbers and self._corners is None:
            self._orders = _orders(headers, _BOXES) or _orders(headers, _PLACES)
        used = {*self._numbers.values(), *(self._corners or ()), *self._orders}
        others = [place for place in range(len(headers)) if place not in used]
        named = [place for place in others if names[place] in _LABELS]
        free = [place for place in others if names[place] not in _NUMBERS]
        self._label = next(iter(named or free), None)

    def boxes(self, row: _Row) -> Iterator[Found]:
        """The boxes of a row."""
        label = self._label_of(row)
        if self._numbers:
            yield from self._of_numbers(row, label)
        if self._corners is not None:
            yield from _of_corners(row[self._corners[0]], row[self._corners[1]], label)
        for place, order in self._orders.items():
            yield from _of_cell(row[place], order, label)

    def _label_of(self, row: _Row) -> str | None:
        if self._label is None:
            return None
        text = _plain(row[self._label].text.replace("\\|", "|"))
        return text if any(letter.isalnum() for letter in text) else None

    def _of_numbers(self, row: _Row, label: str | None) -> Iterator[Found]:
        cells = [row[place] for place in self._numbers.values()]
        matches = [_ONE.fullmatch(_bare(cell.text)) for cell in cells]
        start, end = min(cell.start for cell in cells), max(cell.end for cell in cells)
        if all(matches):
            values = [match[1] for match in matches if match]
            corners = corners_of(dict(zip(self._numbers, values, strict=True)))
            if corners is not None:
                yield Found(start, end, corners[0], repairs=corners[1], label=label)
        elif any(any(map(str.isdigit, cell.text)) for cell in cells):
            missing = [
                name for name, match in zip(self._numbers, matches, strict=True) if match is None
            ]
            problem = f"{', '.join(missing)}: no plain numbers"
            yield Found(start, end, problem=problem, label=label)


def _of_corners(first: _Cell, second: _Cell, label: str | None) -> Iterator[Found]:
    """The box of two cells, each with a corner."""
    start, end = min(first.start, second.start), max(first.end, second.end)
    one, other = _PAIR.fullmatch(_bare(first.text)), _PAIR.fullmatch(_bare(second.text))
    if one and other:
        yield Found(start, end, (*one.groups(), *other.groups()), label=label)
    elif any(map(str.isdigit, first.text + second.text)):
        problem = "two corners of two plain numbers make a box"
        yield Found(start, end, problem=problem, label=label)


def _bare(cell: str) -> str:
    """A cell without Markdown around its value, of the same meaning."""
    return cell.strip("*` \t")


def _orders(headers: Sequence[str], names: re.Pattern[str]) -> dict[int, tuple[str, ...]]:
    """The names of the numbers in the boxes of each column that has boxes."""
    orders = {place: _order(header, names) for place, header in enumerate(headers)}
    return {place: order for place, order in orders.items() if order is not None}


def _order(header: str, names: re.Pattern[str]) -> tuple[str, ...] | None:
    """The names of the numbers in the boxes of a column; None: it has no boxes."""
    listed = _ORDER.search(header.lower())
    if listed:
        order = tuple(_name(name) for name in re.split("[,;]", listed[1]))
        if corners_of(dict.fromkeys(order, "0")) is not None:
            return order
    if re.search(r"box[ _]?2d\b", header, re.IGNORECASE) and "bbox" not in header.lower():
        return "y1", "x1", "y2", "x2"  # Gemini's
    return ("x1", "y1", "x2", "y2") if names.search(header) else None


def _of_cell(cell: _Cell, order: Sequence[str], label: str | None) -> Iterator[Found]:
    """The boxes of a cell, in brackets or alone."""
    matches = list(_FOUR.finditer(cell.text))
    alone = _BARE.fullmatch(_bare(cell.text))
    spans = [(cell.start + one.start(), cell.start + one.end(), one.groups()) for one in matches]
    if alone and not matches:
        spans = [(cell.start, cell.end, alone.groups())]
    for start, end, numbers in spans:
        corners = corners_of(dict(zip(order, numbers, strict=True)))
        if corners is not None:
            values, repairs = corners
            if tuple(order) == ("y1", "x1", "y2", "x2"):
                repairs = ("read as top, left, bottom, right (Gemini's box_2d)",)
            yield Found(start, end, values, repairs=repairs, label=label)
