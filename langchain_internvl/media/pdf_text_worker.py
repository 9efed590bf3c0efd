"""The process that reads the text layers of a PDF's pages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np

from langchain_internvl.media.pdf_annotations import annotation_texts
from langchain_internvl.media.pdf_damage import PdfInspector
from langchain_internvl.media.pdf_worker import inspect, open_pages
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
_CELLS = 64
"""Rows and columns of the grid in which the area of images is counted."""


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Read the text layers of pages.

    Args:
        task: `path`, `pages` (for `select_pages`), `password` and `max_pages`.
        records: Receives the number of pages and the indices of the requested ones, then a record
            of properties for each page (see `pdf_text.PdfPageText`).

    Raises:
        MediaTooLargeError: Too many pages are requested.
        RequestError: The file does not have a requested page.
        ValueError: The file has no pages, or is encrypted and the password is missing or wrong.
    """
    document, total, numbers = open_pages(task)
    document.init_forms()
    inspector = inspect(task, total)
    _write(records, {"total": total, "numbers": numbers})
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
        "damage": None,
    }
    with suppress(Exception):
        facts["label"] = document.get_page_label(number) or None
    with suppress(Exception):
        page = document[number]
        facts["width"], facts["height"] = page.get_size()
        facts["rotation"] = page.get_rotation()
        with suppress(Exception):
            facts["image_share"] = _image_share(page)
        textpage = page.get_textpage()
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


def _visible_text(page: Any, textpage: Any) -> str:
    """The text of a page, without what its crop box hides."""
    media, crop = page.get_mediabox(), page.get_cropbox()
    hides = (
        crop[0] > media[0] + 1
        or crop[1] > media[1] + 1
        or crop[2] < media[2] - 1
        or crop[3] < media[3] - 1
    )
    text: str
    if hides and crop[0] < crop[2] and crop[1] < crop[3]:
        text = textpage.get_text_bounded(*crop)
    else:
        text = textpage.get_text_range(count=min(textpage.count_chars(), _MOST_TEXT))
    return text[:_MOST_TEXT]


def _image_share(page: Any) -> float:
    """Share of the page that its images cover; scanners often cut a page into strips or tiles."""
    left, bottom, right, top = page.get_mediabox()
    cells = np.zeros((_CELLS, _CELLS), bool)
    across, up = _CELLS / ((right - left) or 1.0), _CELLS / ((top - bottom) or 1.0)
    for count, image in enumerate(page.get_objects(filter=[_IMAGE], max_depth=_DEPTH)):
        if count >= _MOST_OBJECTS:
            break
        x0, y0, x1, y1 = image.get_bounds()
        columns = sorted(round((x - left) * across) for x in (x0, x1))
        rows = sorted(round((y - bottom) * up) for y in (y0, y1))
        cells[slice(*np.clip(rows, 0, _CELLS)), slice(*np.clip(columns, 0, _CELLS))] = True
    return float(cells.mean())


if __name__ == "__main__":
    main(decode)
