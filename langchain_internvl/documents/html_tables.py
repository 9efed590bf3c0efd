"""Closes the HTML tables of a text and removes attributes that do not describe structure."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

_STRUCTURE = {"table", "tr", "td", "th", "caption"}
_DROPPED = {"thead", "tbody", "tfoot", "colgroup", "col"}
_ENDS = {"td": {"td", "th"}, "th": {"td", "th"}, "tr": {"td", "th", "tr"}}
"""For each start tag, the open elements that it closes."""


def clean_tables(text: str) -> str:
    """A text with each of its HTML tables closed and cleaned.

    Kept are `table`, `tr`, `td`, `th` and `caption`, `rowspan` and `colspan` above 1, nested
    tables, and any markup inside cells. Everything outside of tables stays as it is.

    Args:
        text: Markdown with HTML tables.
    """
    ends = [found.start() for found in _TABLE.finditer(text)]
    if ends and text[ends[-1] + 1] != "/" and (cut := _CUT_TAG.search(text)):
        text = text[: cut.start()]
    absent = (chr(code) for code in range(0xE000, 0x110000) if chr(code) not in text)
    less, ampersand = next(absent), next(absent)
    cleaner = _Cleaner(text, less, ampersand)
    cleaner.feed(_AMPERSAND.sub(ampersand, _STRAY.sub(less, text)))
    cleaner.close()
    return cleaner.result()


_STRAY = re.compile(r"<(?!/?[A-Za-z][^<>]*>|!--(?:(?!-->).)*-->)", re.DOTALL)
_AMPERSAND = re.compile(r"&(?!#?\w{1,32};)")
_TABLE = re.compile(r"<table\b|</table\s*>", re.IGNORECASE)
_CUT_TAG = re.compile(
    r"</?(?:t|ta|tab|tabl|(?:table|tr|td|th|thead|tbody|tfoot|caption)(?:\s[^<>]*)?)?\Z",
    re.IGNORECASE,
)
"""A tag at the end of a reply that reached its limit."""


def _span(value: str | None) -> int:
    """The number of cells that a span attribute gives; 1 if it is absent or malformed."""
    value = (value or "").strip()
    return int(value) if value.isdecimal() and len(value) < 5 else 1


class _Cleaner(HTMLParser):
    """Copies a text; inside tables, element by element.

    Args:
        text: The text.
        less: A character that the text does not have. It stands for a `<` that is text in what is
            fed, so that tags are found.
        ampersand: Another one, for `&`.
    """

    def __init__(self, text: str, less: str, ampersand: str) -> None:
        super().__init__(convert_charrefs=False)
        self._less, self._and = less, ampersand
        self._starts = [0]
        for line in text.split("\n"):
            self._starts.append(self._starts[-1] + len(line) + 1)
        self._text = text  # of the same length as what is fed
        self._out: list[str] = []
        self._open: list[str] = []
        self._copied = 0

    def result(self) -> str:
        if self._open:
            while self._open:
                self._pop()
        else:
            self._out.append(self._text[self._copied :])
        return "".join(self._out)

    def set_cdata_mode(self, *_: object, **__: object) -> None:
        """Scripts and titles are text of a page like any other."""

    def _place(self) -> int:
        line, column = self.getpos()
        return self._starts[line - 1] + column

    def _start_tag(self) -> str:
        return (self.get_starttag_text() or "").replace(self._and, "&")

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        start = self._start_tag()
        if not self._open:
            if tag != "table":
                return
            self._out.append(self._text[self._copied : self._place()])
        if tag in _DROPPED:
            return
        if tag not in _STRUCTURE:
            self._out.append(start)
            return
        if tag == "table":
            self._open.append(tag)
            self._out.append("<table>\n")
            return
        while self._open[-1] in _ENDS.get(tag, set()):
            self._pop()
        if tag in {"td", "th"} and self._open[-1] == "table":
            self._push("tr", "")
        spans = "".join(
            f' {name}="{_span(value)}"'
            for name, value in attrs
            if name in {"rowspan", "colspan"} and _span(value) > 1
        )
        self._push(tag, spans)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._open and tag not in _STRUCTURE | _DROPPED:
            self._out.append(self._start_tag())
        elif tag in _STRUCTURE:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self._open or tag in _DROPPED:
            return
        if tag not in _STRUCTURE:
            self._out.append(f"</{tag}>")
            return
        own = len(self._open) - 1 - self._open[::-1].index("table")
        if tag not in self._open[own:]:
            return
        while self._open[-1] != tag:
            self._pop()
        self._pop()
        if not self._open:
            end = self._text.index(">", self._place()) + 1
            self._copied = end

    def handle_data(self, data: str) -> None:
        self._copy(data)

    def handle_entityref(self, name: str) -> None:
        self._copy(f"&{name};")

    def handle_charref(self, name: str) -> None:
        self._copy(f"&#{name};")

    def _copy(self, data: str) -> None:
        """Text inside a table; white space between its elements is layout."""
        if not self._open or (self._open[-1] in {"table", "tr"} and not data.strip()):
            return
        if self._open[-1] in {"table", "tr"}:  # text between cells belongs to no cell
            text = data.strip().replace(self._less, "<").replace(self._and, "&")
            self._out.append(html.escape(html.unescape(text), quote=False))
            return
        self._out.append(data.replace(self._less, "&lt;").replace(self._and, "&"))

    def _push(self, tag: str, attributes: str) -> None:
        self._open.append(tag)
        self._out.append(f"<{tag}{attributes}>")

    def _pop(self) -> None:
        tag = self._open.pop()
        if tag in {"td", "th"} and self._out:
            self._out[-1] = self._out[-1].rstrip()
        self._out.append({"tr": "</tr>\n", "table": "</table>"}.get(tag, f"</{tag}>"))
