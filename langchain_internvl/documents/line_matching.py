"""Finds the lines of a page that a cited statement is of, by their texts; needs rapidfuzz.

A statement may be a part of a line, span several lines with words hyphenated at their ends, differ
in case, punctuation, spaces and accents, or say the same in other words. First letters and digits
are compared, one after the other; if they do not agree, the words that both have in common.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from langchain_internvl._optional import require

_AGREES = 0.8
"""Least similarity of letters that are the statement."""
_SHORTEST = 5
"""Letters and digits from which a statement may be a part of a line; fewer must be whole words."""
_COMMON = 0.5
"""Least share of a statement's words, by weight, that lines have which say the same."""
_GAIN = 0.2
"""Least share that a further line adds to what lines have in common."""
_MOST_LINES = 6
"""Most lines that say in other words what a statement says."""
_SAME_WORD = 0.8
_SAME_START = 4
"""Letters at which two words of different endings are the same: "month" and "monthly"."""


class Match(NamedTuple):
    """Lines that a statement is of.

    Attributes:
        lines: Their indices, in the order of the texts.
        score: Their similarity to the statement, 0 to 1; 1 if letters and digits are the same.
    """

    lines: tuple[int, ...]
    score: float


def match_lines(statement: str, texts: Sequence[str], *orders: Sequence[int]) -> Match | None:
    """The lines that a statement is of.

    Args:
        statement: The statement.
        texts: The texts of the lines, in reading order.
        orders: Other orders of their indices in which a statement may span lines, such as the
            rows of a table.

    Returns:
        The best match, of equal ones the first; None: no line is similar enough.

    Raises:
        ImportError: The extra `documents` is not installed.
    """
    for compare in (_by_letters, _by_words):
        best: Match | None = None
        for order in (range(len(texts)), *orders):
            found = compare(statement, [texts[index] for index in order])
            if found is not None and (best is None or found.score > best.score + 1e-9):
                best = Match(tuple(order[index] for index in found.lines), found.score)
        if best is not None:
            return best
    return None


def letters_of(text: str) -> str:
    """The letters and digits of a text, in lower case, without accents."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text).casefold()))


def _by_letters(statement: str, texts: Sequence[str]) -> Match | None:
    """The lines with nearly the statement's letters in a row."""
    wanted = letters_of(statement)
    letters = [letters_of(text) for text in texts]
    page = "".join(letters)
    if min(len(wanted), len(page)) < _SHORTEST:
        return None
    found = _aligned(wanted, page)
    # A page with fewer letters than the statement says only a part of it.
    if found is None or len(page) < _AGREES * len(wanted):
        return None
    while len(before := page[: found.dest_end - 1]) >= len(wanted):
        earlier = _aligned(wanted, before)
        if earlier is None or earlier.score < found.score - 1e-6:
            break
        found = earlier
    return Match(_touched(letters, found.dest_start, found.dest_end), found.score / 100)


def _aligned(wanted: str, page: str) -> Any:
    """The part of a page that is most like the wanted letters; None: none is like them."""
    fuzz: Any = require("rapidfuzz.fuzz", extra="documents")
    return fuzz.partial_ratio_alignment(wanted, page, score_cutoff=100 * _AGREES)


def _touched(letters: Sequence[str], start: int, end: int) -> tuple[int, ...]:
    """Lines of which more than a few letters at an edge lie from `start` to `end`."""
    shares: list[tuple[int, int]] = []
    at = 0
    for index, line in enumerate(letters):
        inside = min(end, at + len(line)) - max(start, at)
        if inside > 0:
            shares.append((inside, index))
        at += len(line)
    most = max(inside for inside, _ in shares)
    return tuple(
        index
        for inside, index in shares
        # A match may begin or end some letters too early or late.
        if inside == most or (inside >= min(4, len(letters[index])) and inside > 0.1 * most)
    )


def _by_words(statement: str, texts: Sequence[str]) -> Match | None:
    """The fewest lines that have most of the statement's words, by weight."""
    words = _words(statement)
    whole = sum(map(_weight, words))
    if not whole:
        return None
    found = [_common(words, _words(text)) for text in texts]
    best: Match | None = None
    most = 0.0
    for first in range(len(texts)):
        common: set[str] = set()
        for last in range(first, min(first + _MOST_LINES, len(texts))):
            if last > first and not found[last] - common:
                continue
            common |= found[last]
            score = sum(map(_weight, common)) / whole
            value = score - _GAIN * (last - first)
            if score >= _COMMON and value > most + 1e-9:
                most = value
                lines = tuple(index for index in range(first, last + 1) if found[index])
                best = Match(lines, min(score, 0.99))
    return best


def _words(text: str) -> tuple[str, ...]:
    parts = "".join(letter if letter.isalnum() else " " for letter in text).split()
    return tuple(dict.fromkeys(filter(None, map(letters_of, parts))))


def _weight(word: str) -> float:
    """What a word says: numbers most, words of one or two letters nothing."""
    if any(map(str.isdigit, word)):
        return 4.0 + len(word)
    return 0.0 if len(word) < 3 and word.isascii() else min(max(len(word) - 2.0, 1.0), 8.0)


def _common(words: Iterable[str], line: Sequence[str]) -> set[str]:
    """The words of a statement that a line has."""
    return {word for word in words if any(_is_same(word, other) for other in line)}


def _is_same(word: str, other: str) -> bool:
    if word == other:
        return True
    if min(len(word), len(other)) < _SAME_START or word.isdigit() or other.isdigit():
        return False
    if word.startswith(other) or other.startswith(word):
        return True
    fuzz: Any = require("rapidfuzz.fuzz", extra="documents")
    return bool(fuzz.ratio(word, other) >= 100 * _SAME_WORD)
