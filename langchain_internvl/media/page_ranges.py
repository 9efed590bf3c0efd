"""Page ranges of documents: parsing, and resolution to indices once the page count is known."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from langchain_internvl.errors import RequestError

Pages: TypeAlias = int | str | slice | Iterable[int] | None
"""Pages of a document: Python's indices, or page numbers as text; see `parse_pages`."""

_SPAN = re.compile(r"(\d*)\s*[-\u2013]\s*(\d*)")


def parse_pages(pages: Pages) -> list[Any] | None:
    """Page ranges in a form that JSON can hold.

    Args:
        pages: An index from 0, negative from the end, or several of them; a `range` or `slice` of
            indices; or text with page numbers from 1 as people write them: "1-3, 7, 10-". None:
            all pages. Results of this function are accepted too. Order and repetition are kept.

    Returns:
        Items for `select_pages`: indices, and `[start, stop, step]` of slices; None: all pages.

    Raises:
        RequestError: The value has another type or form, or selects no page.
    """
    if pages is None:
        return None
    if callable(to_list := getattr(pages, "tolist", None)):
        pages = to_list()  # NumPy's integers and arrays
    items: list[Any] = []
    if isinstance(pages, str):
        items = [_parse_span(span.strip(), pages) for span in pages.split(",") if span.strip()]
    elif isinstance(pages, slice) or (
        isinstance(pages, range) and pages and pages.start >= 0 and pages.step > 0
    ):
        items = [[pages.start, pages.stop, pages.step]]
    elif isinstance(pages, int):
        items = [pages]
    elif isinstance(pages, Iterable) and not isinstance(pages, (bytes, bytearray, memoryview)):
        given: Iterable[Any] = pages
        items = [list(one) if isinstance(one, tuple) else one for one in given]
    numbers = [one for item in items for one in (item if isinstance(item, list) else [item])]
    if (
        not items
        or any(isinstance(one, bool) or not isinstance(one, int | None) for one in numbers)
        or None in items
        or any(isinstance(item, list) and (len(item) != 3 or item[2] == 0) for item in items)
    ):
        raise RequestError(
            f"pages={pages!r} names no pages: give indices from 0, a range or slice of them, or "
            'page numbers from 1 as text, such as "1-3, 7, 10-"'
        )
    return items


def _parse_span(span: str, pages: str) -> Any:
    """Parse one part of the text form: a number or "first-last", both from 1."""
    if span.isdecimal() and int(span) > 0:
        return int(span) - 1
    match = _SPAN.fullmatch(span)
    if match is None:
        raise RequestError(f"pages={pages!r}: {span!r} is no page number or range like 2-5")
    first, last = (int(one) if one else None for one in match.groups())
    if first == 0 or last == 0 or (first is not None and last is not None and first > last):
        raise RequestError(f"pages={pages!r}: {span!r} is no range: pages count from 1, upwards")
    return [None if first is None else first - 1, last, None]


def select_pages(items: Sequence[Any] | None, total: int) -> list[int]:
    """Indices of the requested pages.

    Args:
        items: What `parse_pages` returned; None: all pages.
        total: Number of pages of the document. Slices are cut off at its end.

    Raises:
        RequestError: The document does not have a page, or none of a slice.
    """
    if items is None:
        return list(range(total))
    numbers: list[int] = []
    for item in items:
        found = list(range(total))[slice(*item)] if isinstance(item, list) else [item]
        if not found or not all(-total <= one < total for one in found):
            start = (item if isinstance(item, int) else item[0]) or 0
            missing = (
                f"page {start + 1}, which is index {start}" if start >= 0 else f"index {start}"
            )
            raise RequestError(
                f"pages: it has {total} page{'s' * (total != 1)}; there is no {missing}"
            )
        numbers += [one % total for one in found]
    return numbers
