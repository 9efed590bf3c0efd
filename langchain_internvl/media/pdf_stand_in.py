"""Recognises PDFs whose pages are a stand-in: their content is elsewhere in the file.

Such a page says that another program is needed, or is a cover. PDFium draws it as any other.
"""

from __future__ import annotations

from typing import Any


def stand_in(file: Any) -> str | None:
    """Why the pages of a PDF may not show its content.

    Attachments alone are no reason: an invoice may have its numbers as XML, too.

    Args:
        file: The file, of pikepdf.

    Returns:
        The reason, and what to do; None: its pages are its content, as far as the file tells.
    """
    root = file.Root
    # Forms with pages of their own, which are drawn, have no NeedsRendering (ISO 32000-1, 7.7.2).
    if "/XFA" in root.get("/AcroForm", {}) and bool(root.get("/NeedsRendering", False)):
        return (
            "it is a dynamic XFA form, whose pages only Adobe's programs make, and it may show a "
            "notice in their place; print it to a PDF there"
        )
    collection = root.get("/Collection")  # ISO 32000-1, 7.11.6
    if collection is None or not (count := len(file.attachments)):
        return None
    if any(_is_payload(one.obj) for one in file.attachments.values()):
        return (
            "it is the wrapper of an encrypted document, which is not read; export that without "
            "protection"
        )
    if collection.get("/View") == "/H":  # hidden: the pages are what is shown
        return None
    return (
        f"it is a portfolio, of which only the cover is read, and not the files in it ({count}); "
        "save them (pikepdf.open(path).attachments), and pass each"
    )


def _is_payload(attachment: Any) -> bool:
    """Whether an attachment is the document of an unencrypted wrapper (ISO 32000-2, 7.6.7)."""
    return bool(attachment.get("/AFRelationship") == "/EncryptedPayload")
