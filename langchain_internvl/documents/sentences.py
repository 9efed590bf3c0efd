"""Where sentences of prose end: not at abbreviations, initials, dates and decimal points."""

from __future__ import annotations

import re
from collections.abc import Iterator

_END = re.compile(
    r"[.!?\u2026]+[\"'\u201d\u2019\u00bb)\]]*(?P<gap>\s+)"
    r"|[\u3002\uff01\uff1f]+[\"'\u201d\u2019\u300d\u300f)]*(?P<none>\s*)"
)
_OPENING = re.compile(r"[\"'\u201c\u2018\u201e\u00ab\u2039(\[{\u00bf\u00a1*_#>\u2013\u2014-]*\s*")
_LAST_WORD = re.compile(r"[^\s(\[\"'\u201c\u201e\u00ab/]*\Z")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.)+[^\W\d_]{1,2}")
"""Abbreviations with dots inside, such as "i.e" and "z.B"."""
_TIMES = {"a.m", "p.m"}
_NEVER_LAST = (
    "mr mrs ms mx dr prof st messrs mme mlle hr hrn fr sr sra dres rev hon gen col capt lt sgt "
    "gov sen rep pres dipl ing mag vs bzw ggf bspw evtl inkl exkl zzgl zzt vgl sog gem incl "
    "excl approx ca cf viz resp esp"
)
"""Abbreviations that no sentence ends with, or hardly ever."""
_WITH_NUMBERS = (
    "no nos nr nrn art arts abs ziff p pp s ss pos fig figs tab vol ch chap sec sect par para "
    "paras cl eq ex app anh anl bd bl kap rn rz lit pg ver tel fax bldg apt rm ste min max al op "
    "sch ann inv ref jan feb mar apr jun jul aug sep sept oct okt nov dec dez num n\u00b0 \u00a7"
)
"""Abbreviations before a number: "art. 5", "No. 5"."""
_TITLES, _BEFORE_NUMBERS = frozenset(_NEVER_LAST.split()), frozenset(_WITH_NUMBERS.split())
_MONTH = re.compile(
    r"(?:januar|februar|m\u00e4rz|april|mai|juni|juli|august|september|oktober|november|dezember"
    r"|january|february|march|may|june|july|october|december)\b",
    re.IGNORECASE,
)


def sentence_ends(text: str) -> Iterator[tuple[int, int]]:
    """Where sentences end before others within a text.

    A sentence ends with a full stop, question or exclamation mark, before a word that does not
    begin with a small letter, and not at an abbreviation.

    Args:
        text: The text.

    Yields:
        Where the white space after each sentence begins and ends.
    """
    for found in _END.finditer(text):
        if found["none"] is not None:
            yield found.span("none")
        elif not _goes_on(text, found.start(), found.end(), found[0]):
            yield found.span("gap")


def last_sentence(text: str, least: int) -> int:
    """Index at which the last sentence or line of a text begins.

    Args:
        text: The text; white space and stops at its end are of its last sentence.
        least: Smallest index, where a sentence is known to begin.
    """
    said = text[: len(text.rstrip(" .!?\u3002\uff01\uff1f"))]
    ends = [end for _, end in sentence_ends(said) if end < len(said)]
    lines = [found.end() for found in re.finditer(r"\n+", said)]
    begin = max([least, *ends, *lines])
    return begin + len(text[begin:]) - len(text[begin:].lstrip())


def _goes_on(text: str, stop: int, after: int, mark: str) -> bool:
    """Whether a sentence goes on after a stop.

    Args:
        text: The text.
        stop: Where the stop is.
        after: Where the text after it begins.
        mark: The stop, with what closes it and white space.
    """
    opening = _OPENING.match(text, after)
    rest = text[opening.end() if opening else after :]
    if rest[:1].islower():
        return True
    if mark.strip() != ".":
        return False
    before = _LAST_WORD.search(text[max(0, stop - 40) : stop])
    word = before[0] if before else ""
    small = word.casefold()
    if word.isdigit() and len(word) < 3:
        return _MONTH.match(rest) is not None
    if len(word) == 1 and word.isalpha() and not _is_unit(text[:stop], word):
        return True
    if _DOTTED.fullmatch(word):
        return small not in _TIMES or rest[:1].isdigit()
    return small in _TITLES or (small in _BEFORE_NUMBERS and _begins_number(rest))


def _is_unit(text: str, word: str) -> bool:
    """Whether a small letter follows a number, as in "5 m"."""
    return word.islower() and re.search(r"\d\s*[a-z]\Z", text) is not None


def _begins_number(text: str) -> bool:
    return re.match(r"[\d#(]|[IVXLC]+\b|[A-Z]?\d", text) is not None
