"""The text of HTML in pages: without tags, and tables row by row."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

_ATTRIBUTES = r"""(?:\s+[^\s<>"'=/]+(?:\s*=\s*(?:"[^"]*"|'[^']*'|[^\s<>"']+))?)*\s*/?"""
_TABLE = "table|thead|tbody|tfoot|caption|colgroup|col|tr|td|th"
_INLINE = (
    "a|abbr|b|big|blockquote|br|center|code|del|div|dd|dl|dt|em|font|h[1-6]|hr|i|img|ins|kbd|li|mark"
    "|ol|p|pre|q|s|small|span|strike|strong|sub|sup|u|ul"
)
_TAG = re.compile(rf"</?(?:{_TABLE}|{_INLINE}){_ATTRIBUTES}>", re.IGNORECASE)
_TABLE_TAG = re.compile(rf"<(/?)({_TABLE}){_ATTRIBUTES}>", re.IGNORECASE)
_CELLS = {"td", "th"}
_ROWS = {"table", "tr", "caption"}


def without_tags(text: str) -> str:
    """A text with a space for each HTML tag, and with its entities decoded.

    Tags are those of tables and of text; anything else in angle brackets stays.

    Args:
        text: The text.
    """
    return html.unescape(_TAG.sub(" ", text))


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text, and the rows of its HTML tables as "cell | cell".

    Empty cells are left out. A table may be cut off at both ends, as in a part of a page.

    Args:
        text: The text.
    """
    if _TABLE_TAG.search(text) is None:
        yield from text.splitlines()
        return
    row: list[str] = []
    at = 0
    is_cell, is_first = False, True
    for tag in _TABLE_TAG.finditer(text):
        is_end, name = bool(tag[1]), tag[2].lower()
        between = text[at : tag.start()]
        at = tag.end()
        if is_first and is_end and name in _CELLS:  # the text begins within a cell
            *before, between = between.split("\n")
            yield from before
            is_cell = True
        if is_cell:
            row.append(" ".join(without_tags(between).split()))
        else:
            yield from between.splitlines()
        is_first = False
        is_cell = not is_end and name in _CELLS | {"caption"}
        if name in _ROWS and any(row):
            yield " | ".join(filter(None, row))
            row = []
    if is_cell:
        row.append(" ".join(without_tags(text[at:]).split()))
    if any(row):
        yield " | ".join(filter(None, row))
    if not is_cell:
        yield from text[at:].splitlines()
