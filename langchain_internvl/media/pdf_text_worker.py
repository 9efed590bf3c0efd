"""The process that reads the text layers of a PDF's pages."""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from langchain_internvl._optional import require
from langchain_internvl.media.pdf_annotations import annotation_texts
from langchain_internvl.media.pdf_damage import PdfInspector
from langchain_internvl.media.pdf_worker import inspect, open_page, open_pages
from langchain_internvl.media.records import HEAD, write_record
from langchain_internvl.media.worker import main

_MOST_TEXT = 200_000
"""Maximum characters of a page: a record has at most 1 MiB."""
_HYPHEN = "\ufffe"
"""PDFium's character for a hyphen at the end of a line and the line end (cpdf_textpage.cpp)."""
_IMAGE = 3
"""FPDF_PAGEOBJ_IMAGE."""
_DEPTH = 4
"""Maximum nesting depth of forms that are searched for images."""
_MOST_OBJECTS = 400
_SAMPLE = 200
"""Letters of a page whose direction is looked at."""
_LEAN = 10
"""Degrees by which letters that run downwards may lean."""
_CELLS = 512
"""Rows and columns of the grid in which the area of images is counted."""


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Read the text layers of pages.

    Args:
        task: `path`, `pages` (for `select_pages`), `password` and `max_pages`.
        records: Receives the number of pages, the indices of the requested ones and `stand_in`,
            then a record of properties for each page (see `pdf_text.PdfPageText`).

    Raises:
        MediaTooLargeError: Too many pages are requested.
        RequestError: The file does not have a requested page.
        ValueError: The file has no pages, or is encrypted and the password is missing or wrong.
    """
    document, total, numbers = open_pages(task)
    document.init_forms()
    inspector = inspect(task, total)
    _write(records, {"total": total, "numbers": numbers, "stand_in": inspector.stand_in()})
    for number in numbers:
        _write(records, _facts(document, number, inspector))


def _write(records: BinaryIO, values: Mapping[str, Any]) -> None:
    text = json.dumps(values, ensure_ascii=False)
    write_record(records, HEAD, text.encode("utf-8", "replace"))
    records.flush()


def _facts(document: Any, number: int, inspector: PdfInspector) -> dict[str, Any]:
    """Properties of a page; unreadable ones have defaults."""
    facts: dict[str, Any] = {
        "text": "",
        "label": None,
        "width": 0.0,
        "height": 0.0,
        "rotation": 0,
        "image_share": 0.0,
        "annotations": [],
        "hides_layers": False,
        "damage": None,
    }
    with suppress(Exception):
        facts["label"] = document.get_page_label(number) or None
    with suppress(Exception):
        page = open_page(document, number)
        size = facts["width"], facts["height"] = page.get_size()
        with suppress(Exception):  # a damaged unit leaves the page's size as it is
            facts["width"], facts["height"] = (inspector.user_unit(number) * side for side in size)
        with suppress(Exception):
            facts["hides_layers"] = inspector.hides_layers(number)
        facts["rotation"] = page.get_rotation()
        with suppress(Exception):
            facts["image_share"] = _image_share(page)
        textpage = _upright_text(page)
        text = _visible_text(page, textpage)
        with suppress(Exception):
            facts["annotations"] = annotation_texts(document, page)
            text = "\n".join(filter(None, (text, *facts["annotations"])))[:_MOST_TEXT]
        text = text.replace(_HYPHEN, "-\n").replace("\r\n", "\n").replace("\r", "\n")
        facts["text"] = text.replace("\0", "")
        textpage.close()
        facts["damage"] = inspector.damage(number)
        if not facts["text"].strip() and next(page.get_objects(max_depth=1), None) is None:
            facts["damage"] = facts["damage"] or inspector.hidden(number, page)
        page.close()
    return facts


def _upright_text(page: Any) -> Any:
    """The text page of a page, turned if most of its letters run downwards.

    PDFium orders lines that begin at one height from left to right: those of a table that was
    turned clockwise to fit on the page would come from the last to the first.
    """
    textpage = page.get_textpage()
    if not _runs_downwards(page, textpage):
        return textpage
    textpage.close()
    own = page.get_rotation()
    page.set_rotation((own + 270) % 360)
    textpage = page.get_textpage()
    page.set_rotation(own)  # the page may be asked for again
    return textpage


def _runs_downwards(page: Any, textpage: Any) -> bool:
    """Whether most of a sample of letters are turned clockwise by 90 degrees where they are shown.

    PDFium's angles are clockwise, before the page's own rotation.
    """
    pdfium = require("pypdfium2.raw", extra="documents")
    number = textpage.count_chars()
    angles = [
        pdfium.FPDFText_GetCharAngle(textpage, index)
        for index in range(0, number, max(1, number // _SAMPLE))
        if not chr(pdfium.FPDFText_GetUnicode(textpage, index)).isspace()
    ]
    turned: list[int] = [
        round(math.degrees(one) + page.get_rotation()) % 360 for one in angles if one >= 0
    ]
    return 2 * sum(abs(one - 90) <= _LEAN for one in turned) > len(angles)


def _visible_text(page: Any, textpage: Any) -> str:
    """The text of a page, without what lies outside of its visible part."""
    whole: str = textpage.get_text_range(count=min(textpage.count_chars(), _MOST_TEXT))
    inside: str = textpage.get_text_bounded(*page.get_bbox())
    # Letters of fonts without glyphs may have no area, and so none within the bounds.
    if _letters(inside) == _letters(whole) or not _has_text_outside(page, textpage):
        return whole
    return inside[:_MOST_TEXT]


def _letters(text: str) -> int:
    return sum(not one.isspace() for one in text)


def _has_text_outside(page: Any, textpage: Any) -> bool:
    """Whether a letter begins outside of the visible part of a page."""
    pdfium = require("pypdfium2.raw", extra="documents")
    left, bottom, right, top = page.get_bbox()
    x, y = ctypes.c_double(), ctypes.c_double()
    return any(
        pdfium.FPDFText_GetCharOrigin(textpage, index, x, y)
        and not (left <= x.value <= right and bottom <= y.value <= top)
        and not chr(pdfium.FPDFText_GetUnicode(textpage, index)).isspace()
        for index in range(min(textpage.count_chars(), _MOST_TEXT))
    )


def _image_share(page: Any) -> float:
    """Share of the visible page that images cover; scanners often cut one into strips or tiles."""
    left, bottom, right, top = page.get_bbox()
    cells = np.zeros((_CELLS, _CELLS), bool)
    across, up = _CELLS / ((right - left) or 1.0), _CELLS / ((top - bottom) or 1.0)
    for count, image in enumerate(page.get_objects(filter=[_IMAGE], max_depth=_DEPTH)):
        if count >= _MOST_OBJECTS:
            break
        x0, y0, x1, y1 = _bounds_on_page(image)
        columns = sorted(round((x - left) * across) for x in (x0, x1))
        rows = sorted(round((y - bottom) * up) for y in (y0, y1))
        cells[slice(*np.clip(rows, 0, _CELLS)), slice(*np.clip(columns, 0, _CELLS))] = True
    return float(cells.mean())


def _bounds_on_page(drawn: Any) -> tuple[float, float, float, float]:
    """Left, bottom, right and top of an object; PDFium's are in the space of the form it is in."""
    bounds: tuple[float, float, float, float] = drawn.get_bounds()
    form = drawn.container
    while form is not None:
        bounds = form.get_matrix().on_rect(*bounds)
        form = form.container
    return bounds


if __name__ == "__main__":
    main(decode)
