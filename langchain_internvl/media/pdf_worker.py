"""What the process that draws the pages of a PDF does."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from langchain_internvl._optional import require
from langchain_internvl.errors import MediaTooLargeError
from langchain_internvl.media.records import FAULT, HEAD, LIMIT, write_picture, write_record
from langchain_internvl.media.worker import check_size, main


def decode(task: Mapping[str, Any], records: BinaryIO) -> None:
    """Draw all pages of a PDF.

    Args:
        task: `path`, `long_side`, `max_pages` and `max_pixels`.
        records: Where the pages go, after their number; for one that cannot be drawn, why.

    Raises:
        MediaTooLargeError: There are too many pages, or pixels.
        ValueError: It has no pages.
    """
    pypdfium2 = require("pypdfium2", extra="documents")
    document: Any = pypdfium2.PdfDocument(Path(task["path"]).read_bytes())
    if len(document) < 1:
        raise ValueError("it has no pages")
    if len(document) > task["max_pages"]:
        raise MediaTooLargeError(
            "",
            f"{len(document)} pages are over MediaPolicy.max_pages={task['max_pages']}",
        )
    document.init_forms()
    write_record(records, HEAD, json.dumps({"pages": len(document)}).encode())
    for index in range(len(document)):
        try:
            picture = _draw(document, index, task)
        except MediaTooLargeError as error:
            write_record(records, LIMIT, f"page {index}: {error.reason}".encode())
        except Exception as error:  # noqa: BLE001 - of whatever type; the other pages are fine
            write_record(records, FAULT, f"page {index}: {error}".encode("utf-8", "replace"))
        else:
            write_picture(records, picture)


def _draw(document: Any, index: int, task: Mapping[str, Any]) -> Any:
    """A page: uint8 [height, width, 3]."""
    page = document[index]
    width, height = page.get_size()
    # PDFium rounds up.
    scale = (task["long_side"] - 1e-3) / max(width, height, 1.0)
    check_size(round(width * scale), round(height * scale), task)
    bitmap = page.render(scale=scale)
    picture = np.asarray(bitmap.to_pil().convert("RGB"))
    bitmap.close()
    page.close()
    return picture


if __name__ == "__main__":
    main(decode)
