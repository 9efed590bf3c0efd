"""Whether the text layer of a PDF's page is good enough to be kept, by named tests.

A text layer is written by the program that made the page, or by an OCR program years ago. It is
kept if it passes every test; the first that fails is reported, so that a user sees why a page was
read by the model.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from langchain_internvl.media.pdf_text import PdfPageText

_LEAST_LETTERS = 12
"""Letters and digits of a page that has text at all."""
_SCAN = 0.5
"""Share of the page from which its largest image is a scan of the page."""
_STAMP = 200
"""Letters below which the layer of a scan is a stamp or a page number over it."""
_WORD = re.compile(r"[^\W\d_]{2,}")
_VOWELS = re.compile(r"[aeiouyàáâãäåæèéêëìíîïòóôõöøœùúûüýÿаеёиоуыэюяαεηιουω]", re.IGNORECASE)


def has_text(page: PdfPageText) -> bool:
    """There are a dozen letters or digits at least."""
    return sum(map(str.isalnum, page.text)) >= _LEAST_LETTERS


def covers_scan(page: PdfPageText) -> bool:
    """If the page is a scan, the layer is more than a stamp over it."""
    is_scan = page.image_share >= _SCAN
    return not is_scan or sum(map(str.isalnum, page.text)) >= _STAMP


def is_decoded(page: PdfPageText) -> bool:
    """Nearly all characters are ones that print; fonts without Unicode give others."""
    visible = [one for one in page.text if not one.isspace()]
    odd = sum(1 for one in visible if not one.isprintable() or one == "\N{REPLACEMENT CHARACTER}")
    return odd <= 0.02 * len(visible)


def is_prose(page: PdfPageText) -> bool:
    """Letters or digits make up most of it; bad OCR is full of marks."""
    visible = [one for one in page.text if not one.isspace()]
    return sum(map(str.isalnum, visible)) >= 0.6 * len(visible)


def has_words(page: PdfPageText) -> bool:
    """Most words of alphabets with vowels have one: wrongly mapped fonts lose them."""
    words = [one for one in _WORD.findall(page.text) if one.isascii()]
    if len(words) < 10:
        return True
    return sum(1 for one in words if _VOWELS.search(one)) >= 0.65 * len(words)


def has_spaces(page: PdfPageText) -> bool:
    """ASCII words are of usual length: some layers lose spaces, or put one after each letter."""
    words = re.findall(r"[A-Za-z]+", page.text)
    if len(words) < 20:
        return True
    return 2.2 <= sum(map(len, words)) / len(words) <= 14


TESTS: tuple[Callable[[PdfPageText], bool], ...] = (
    has_text,
    covers_scan,
    is_decoded,
    is_prose,
    has_words,
    has_spaces,
)
"""The tests, in the order in which they are made."""


def failed_test(page: PdfPageText) -> str | None:
    """Name of the first test that a page's text layer fails; None: it is good.

    Args:
        page: The page.
    """
    return next((test.__name__ for test in TESTS if not test(page)), None)
