"""Pages of a PDF as pictures, by pypdfium2."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from langchain_internvl._optional import require
from langchain_internvl.errors import MediaError, MediaTooLargeError

if TYPE_CHECKING:
    from PIL.Image import Image

    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

LONG_SIDE = 1792
"""Longer side of a page in pixels: four tiles, which an A4 page fills as 3 x 4."""

_PDFIUM = threading.Lock()
"""PDFium is not safe in several threads at once."""


def read_pages(source: Source, policy: MediaPolicy) -> list[Image]:
    """Draw all pages of a PDF.

    Args:
        source: Where the PDF comes from.
        policy: Limits on bytes and pages.

    Returns:
        A picture of each page, RGB, with its annotations and filled forms, upright as the PDF
        says, `LONG_SIDE` pixels at its longer side.

    Raises:
        MediaError: It is no PDF, is damaged or needs a password.
        MediaTooLargeError: It is over a limit of the policy.
        ImportError: The extra `documents` is not installed.
    """
    pdfium = require("pypdfium2", extra="documents")
    data = source.read(policy)
    if not data:
        raise MediaError(source.name, "is empty")
    try:
        with _PDFIUM:
            document = pdfium.PdfDocument(data)
            try:
                if len(document) > policy.max_pages:
                    raise MediaTooLargeError(
                        source.name,
                        f"{len(document)} pages are over MediaPolicy.max_pages={policy.max_pages}",
                    )
                document.init_forms()
                pages = [_draw(page) for page in document]
            finally:
                document.close()
    except (pdfium.PdfiumError, MemoryError, ValueError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(
            source.name, f"is no PDF that can be read, or is damaged or locked: {error}"
        ) from error
    if not pages:
        raise MediaError(source.name, "the PDF has no pages")
    return pages


def _draw(page: Any) -> Image:
    scale = LONG_SIDE / max(*page.get_size(), 1.0)
    bitmap = page.render(scale=scale)
    # A copy: the bitmap's memory is PDFium's.
    picture: Image = bitmap.to_pil().convert("RGB").copy()
    bitmap.close()
    page.close()
    return picture
