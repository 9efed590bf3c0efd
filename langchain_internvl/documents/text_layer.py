"""Quality tests for the text layer of a PDF page.

A text layer comes from the program that made the page, or from an earlier OCR program. It is kept
if it passes every test; the name of the first failed test is reported in the page's metadata
(`text_layer`) as the reason why the model read the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from langchain_internvl.media.pdf_text import PdfPageText

_LEAST_LETTERS = 12
"""Least number of letters and digits of a page with text."""
_SCAN = 0.5
"""Share of the page from which its images are a scan of the page."""
_STAMP = 200
"""Number of letters below which the text layer of a scan is only a stamp or a page number."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_RUN = re.compile(r"([^\w\s]|_)(?:\s*\1){2,}")
_VOWELS = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýÿаеёиоуыэюяαεηιουω]", re.IGNORECASE)


def has_text(page: PdfPageText) -> bool:
    """The page has at least a dozen letters or digits."""
    return sum(map(str.isalnum, page.text)) >= _LEAST_LETTERS


def covers_scan(page: PdfPageText) -> bool:
    """The text layer of a scanned page is more than a stamp."""
    is_scan = page.image_share >= _SCAN
    return not is_scan or sum(map(str.isalnum, page.text)) >= _STAMP


def is_decoded(page: PdfPageText) -> bool:
    """Nearly all characters are printable; fonts without a Unicode map give others."""
    visible = [one for one in page.text if not one.isspace()]
    odd = sum(1 for one in visible if not one.isprintable() or one == "\N{REPLACEMENT CHARACTER}")
    return odd <= 0.02 * len(visible)


def is_prose(page: PdfPageText) -> bool:
    """Most characters are letters or digits; bad OCR has many punctuation marks.

    A run of one mark counts once: dots lead to the numbers of a table of contents, and underscores
    are the blanks of a form.
    """
    visible = [one for one in _RUN.sub(r"\1", page.text) if not one.isspace()]
    return sum(map(str.isalnum, visible)) >= 0.6 * len(visible)


def has_words(page: PdfPageText) -> bool:
    """Most words of alphabets with vowels have a vowel; wrongly mapped fonts lose vowels."""
    words = [one for one in _WORD.findall(page.text) if one.isascii()]
    if len(words) < 10:
        return True
    return sum(1 for one in words if _VOWELS.search(one)) >= 0.65 * len(words)


def has_spaces(page: PdfPageText) -> bool:
    """ASCII words have usual lengths; some layers lose spaces, or add one after each letter."""
    words = re.findall(r"[A-Za-z]+", page.text)
    if len(words) < 20:
        return True
    return 2.2 <= sum(map(len, words)) / len(words) <= 14


def has_all_text(page: PdfPageText) -> bool:
    """No filled form field, free text or stamp stands on the page beside its text layer."""
    return not page.annotations


def shows_all_text(page: PdfPageText) -> bool:
    """No layer (optional content) of the page is switched off, whose text would be among it."""
    return not page.hides_layers


TESTS: tuple[Callable[[PdfPageText], bool], ...] = (
    has_text,
    covers_scan,
    is_decoded,
    is_prose,
    has_words,
    has_spaces,
    has_all_text,
    shows_all_text,
)
"""The tests, in the order in which they run."""


def failed_test(page: PdfPageText) -> str | None:
    """Name of the first test that a page's text layer fails; None: it passes all.

    Args:
        page: The page.
    """
    return next((test.__name__ for test in TESTS if not test(page)), None)
