"""The order in which letters of right-to-left scripts are written into a PDF.

A PDF shows glyphs from left to right, so programs that make PDFs write Hebrew and Arabic reversed,
and programs that extract text turn it back. PDFium (Chrome, pypdfium2) does so by segments: a line
is cut where the direction of its letters changes. If more segments run from right to left than from
left to right, they are taken from the right, else from the left; letters of right-to-left segments
are reversed, and so are spaces and brackets after them, which are also mirrored. What is written
here is what PDFium turns back into the line. For lines in one script that equals the Unicode
Bidirectional Algorithm (UAX #9); viewers with another algorithm may order the words of mixed lines
differently.
"""

from __future__ import annotations

import unicodedata
from itertools import groupby

_RIGHT_TO_LEFT = frozenset({"R", "AL"})
_WEAK = frozenset({"EN", "AN", "CS", "ES", "ET", "NSM"})
"""Digits, their signs and separators, and combining marks: they keep their order."""
_MIRRORED = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")


def to_visual_order(line: str) -> str:
    """A line as it is written into a PDF, from left to right.

    Args:
        line: The line in logical order, as it is read.

    Returns:
        The same line if it has no letters of right-to-left scripts.
    """
    segments = [(kind, "".join(run)) for kind, run in groupby(line, _kind)]
    right, left = (sum(kind == one for kind, _ in segments) for one in ("right", "left"))
    if not right:
        return line
    is_reversed = right > left
    written: list[str] = []
    for kind, text in segments:  # as they are read, whichever side that begins at
        if kind in {"right", "left"}:
            is_reversed = kind == "right"
        turns = kind == "right" or (kind == "neutral" and is_reversed)
        written.append(text[::-1].translate(_MIRRORED) if turns else text)
    return "".join(written[::-1] if right > left else written)


def _kind(letter: str) -> str:
    kind = unicodedata.bidirectional(letter)
    if kind in _RIGHT_TO_LEFT:
        return "right"
    if kind == "L":
        return "left"
    return "weak" if kind in _WEAK else "neutral"
