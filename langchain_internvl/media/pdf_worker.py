"""The process that renders the pages of a PDF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from langchain_internvl._optional import require
from langchain_internvl.errors import MediaTooLargeError
from langchain_internvl.media.page_ranges import select_pages
from langchain_internvl.media.pdf_damage import PdfInspector
from langchain_internvl.media.records import FAULT, HEAD, LIMIT, write_image, write_record
from langchain_internvl.media.signatures import is_pdf, name_of
from langchain_internvl.media.worker import check_size, main


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Render pages of a PDF.

    Args:
        task: `path`, `pages` (for `select_pages`), `password`, `long_side`, `max_pages` and
            `max_pixels`.
        records: Receives the number of pages (`total`), the indices of the requested ones
            (`numbers`) and `stand_in`, then for each page its `damage` and its image, or the error
            of its rendering.

    Raises:
        MediaTooLargeError: Too many pages are requested.
        RequestError: The file does not have a requested page.
        ValueError: The file has no pages, or is encrypted and the password is missing or wrong.
    """
    document, total, numbers = open_pages(task)
    document.init_forms()
    inspector = inspect(task, total)
    head = {"total": total, "numbers": numbers, "stand_in": inspector.stand_in()}
    write_record(records, HEAD, json.dumps(head).encode())
    records.flush()
    for number in numbers:
        try:
            image, damage = _render(document, number, task, inspector)
        except MediaTooLargeError as error:
            write_record(records, LIMIT, f"page {number}: {error.reason}".encode())
        except Exception as error:  # noqa: BLE001 - of any type; the other pages are unaffected
            write_record(records, FAULT, f"page {number}: {error}".encode("utf-8", "replace"))
        else:
            write_record(records, HEAD, json.dumps({"damage": damage}).encode())
            write_image(records, image)
        records.flush()


def open_pages(task: Mapping[str, Any]) -> tuple[Any, int, list[int]]:
    """Open the document of a task: the document, its number of pages and the requested indices.

    Raises:
        MediaTooLargeError: Too many pages are requested.
        RequestError: The file does not have a requested page.
        ValueError: The file has no pages, or is encrypted and the password is missing or wrong.
    """
    document = _open_document(task)
    total = len(document)
    if total < 1:
        raise ValueError("it has no pages")
    numbers = select_pages(task["pages"], total)
    if len(numbers) > task["max_pages"]:
        raise MediaTooLargeError(
            "",
            f"{len(numbers)} pages are over MediaPolicy.max_pages={task['max_pages']}; select some "
            "with pages=, or raise the limit",
        )
    return document, total, numbers


def _open_document(task: Mapping[str, Any]) -> Any:
    """Open the document of a task.

    Raises:
        ValueError: The file is no PDF, or is encrypted and the task's password is missing or wrong.
    """
    pypdfium2 = require("pypdfium2", extra="documents")
    password = task["password"]
    data = Path(task["path"]).read_bytes()
    try:
        try:
            return pypdfium2.PdfDocument(data, password=password)
        except pypdfium2.PdfiumError as error:
            if not password or "password" not in str(error).lower():
                raise
            with suppress(pypdfium2.PdfiumError):
                return pypdfium2.PdfDocument(data)  # only its permissions have a password
            raise
    except pypdfium2.PdfiumError as error:
        if "Success" in str(error):  # PDFium's error for a file without pages
            raise ValueError("it has no pages") from error
        if "password" not in str(error).lower():
            if is_pdf(data):
                raise
            raise ValueError(f"it is {name_of(data)}") from error
        reason = (
            "the given password is wrong"
            if password
            else "pass password=... (pdf_block(), a block, the loader), or pdf_password=... (tools)"
        )
        raise ValueError(f"it is encrypted: {reason}") from error


def open_page(document: Any, index: int) -> Any:
    """A page of an opened document.

    A crop box that lies beyond the paper leaves nothing to show. It counts as none, as in PDF.js;
    for PDFium a page without an area has no crop box.
    """
    page = document[index]
    if min(page.get_size()) > 0:
        return page
    page.set_cropbox(0, 0, 0, 0)
    page.close()
    return document[index]


def inspect(task: Mapping[str, Any], total: int) -> PdfInspector:
    """The inspector of the file of a task, which has `total` pages."""
    return PdfInspector(Path(task["path"]).read_bytes(), task["password"], total)


def _render(
    document: Any, index: int, task: Mapping[str, Any], inspector: PdfInspector
) -> tuple[Any, str | None]:
    """A rendered page, uint8 [height, width, 3], and its damage.

    Raises:
        MediaTooLargeError: The page has more pixels than the task allows.
        ValueError: Nothing is drawn on the page although it has content.
    """
    page = open_page(document, index)
    width, height = page.get_size()
    # PDFium rounds sizes up.
    scale = (task["long_side"] - 1e-3) / max(width, height, 1.0)
    check_size(round(width * scale), round(height * scale), task)
    bitmap = page.render(scale=scale)
    image = np.asarray(bitmap.to_pil().convert("RGB"))
    bitmap.close()
    damage = inspector.damage(index, page)
    if image.min() == 255 and (hidden := damage or inspector.hidden(index, page)) is not None:
        raise ValueError(
            f"nothing is drawn on it although it has content: {hidden}; repair the file, or leave "
            "the page out (pages=)"
        )
    page.close()
    return image, damage


if __name__ == "__main__":
    main(decode)
