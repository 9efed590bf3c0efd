"""Text that annotations draw on a PDF page: form fields, free text and stamps.

PDFium's text layer has the text of the page's content alone.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from typing import Any

from langchain_internvl._optional import require

_FREE_TEXT, _STAMP, _WIDGET = 3, 13, 20
"""FPDF_ANNOT_FREETEXT, FPDF_ANNOT_STAMP, FPDF_ANNOT_WIDGET."""
_HIDDEN = 2 | 32
"""FPDF_ANNOT_FLAG_HIDDEN and FPDF_ANNOT_FLAG_NOVIEW."""
_BUTTON, _CHECK_BOX, _RADIO_BUTTON = 1, 2, 3
"""FPDF_FORMFIELD_PUSHBUTTON, FPDF_FORMFIELD_CHECKBOX, FPDF_FORMFIELD_RADIOBUTTON."""
_DRAWS = re.compile(r"\b(?:T[jJ]|Do)\b|['\"]\s")
"""Operators that show text, an image or a form (ISO 32000-1, 8.8 and 9.4.3)."""
_EMPTY_TEXT = re.compile(r"(?:\(\s{0,99}\)|<(?:\s|20){0,99}>)\s{0,9}Tj\b")
"""Text without letters, which some programs write in each field that is not filled."""
_MOST = 2000
_LONGEST = 10_000


def annotation_texts(document: Any, page: Any) -> list[str]:
    """The texts of the annotations that are drawn on a page.

    Args:
        document: The document of pypdfium2, whose forms are initialised (`init_forms`).
        page: The page, loaded after that.

    Returns:
        For each filled form field, checked box, free text and stamp its text, in the order of the
        file; "" where the file does not tell it (a signature, a drawn stamp).
    """
    pdfium = require("pypdfium2.raw", extra="documents")
    texts: list[str] = []
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page), _MOST)):
        annotation = pdfium.FPDFPage_GetAnnot(page, index)
        if not annotation:
            continue
        try:
            text = _text_of(pdfium, document.formenv, annotation)
        finally:
            pdfium.FPDFPage_CloseAnnot(annotation)
        if text is not None:
            texts.append(text)
    return texts


def _text_of(pdfium: Any, form: Any, annotation: Any) -> str | None:
    """The text of an annotation; None: it draws none."""
    kind = pdfium.FPDFAnnot_GetSubtype(annotation)
    if kind not in {_FREE_TEXT, _STAMP, _WIDGET} or (
        pdfium.FPDFAnnot_GetFlags(annotation) & _HIDDEN
    ):
        return None
    is_drawn = _DRAWS.search(_EMPTY_TEXT.sub("", _appearance(pdfium, annotation))) is not None
    if kind != _WIDGET or form is None:
        contents = _read(
            lambda buffer, size: pdfium.FPDFAnnot_GetStringValue(
                annotation, b"Contents", buffer, size
            )
        )
        return contents if is_drawn or (contents and kind == _FREE_TEXT) else None
    field = pdfium.FPDFAnnot_GetFormFieldType(form, annotation)
    if field == _BUTTON:
        return None
    if field in {_CHECK_BOX, _RADIO_BUTTON}:
        name = _read(
            lambda buffer, size: pdfium.FPDFAnnot_GetFormFieldName(form, annotation, buffer, size)
        )
        return f"[x] {name}" if pdfium.FPDFAnnot_IsChecked(form, annotation) else None
    value = _read(
        lambda buffer, size: pdfium.FPDFAnnot_GetFormFieldValue(form, annotation, buffer, size)
    )
    return value if is_drawn or value.strip() else None


def _appearance(pdfium: Any, annotation: Any) -> str:
    """The content stream of an annotation's normal appearance."""
    return _read(
        lambda buffer, size: pdfium.FPDFAnnot_GetAP(annotation, 0, buffer, size), most=1 << 20
    )


def _read(get: Callable[[Any, int], int], most: int = _LONGEST) -> str:
    """A string of UTF-16 that a function of PDFium writes into a buffer."""
    size = get(None, 0)
    if not 2 < size <= 2 * most:
        return ""
    buffer = ctypes.create_string_buffer(size)
    get(ctypes.cast(buffer, ctypes.POINTER(ctypes.c_ushort)), size)
    return buffer.raw[:size].decode("utf-16-le", "replace").rstrip("\0")
