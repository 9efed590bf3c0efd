"""Finds the lines of a page that a cited statement is of, by their texts; needs rapidfuzz.

A statement may be a part of a line, span several lines with words hyphenated at their ends, differ
in case, punctuation, spaces and accents, or say the same in other words. First the letters and
digits of whole words are compared, one after the other; if they do not agree, the words that both
have in common. Numbers, and words with digits, are equal or different, never similar.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from langchain_internvl._optional import require
from langchain_internvl.documents.letter_overlap import LetterOverlap
from langchain_internvl.documents.page_words import Word, same_numbers, words_of

_AGREES = 0.8
"""Least similarity of letters that are the statement."""
_WITHIN_WORDS = 0.85
"""Similarity of the statement's very letters that begin or end within a word."""
_SHORTEST = 5
"""Letters and digits from which words may be similar; fewer must be the same, and whole words."""
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
        score: Their similarity to the statement, 0 to 1; 1 if they say it word for word.
    """

    lines: tuple[int, ...]
    score: float


def match_lines(
    statement: str, texts: Sequence[str], *orders: Sequence[int], by_words: bool = True
) -> Match | None:
    """The lines that a statement is of.

    Args:
        statement: The statement.
        texts: The texts of the lines, in reading order.
        orders: Other orders of their indices in which a statement may span lines, such as the
            rows of a table.
        by_words: Lines may say the statement in other words.

    Returns:
        The best match, of equal ones the first; None: no line is similar enough.

    Raises:
        ImportError: The extra `documents` is not installed.
    """
    wanted = words_of(statement)
    lines = [words_of(text) for text in texts]
    best: Match | None = None
    for order in (range(len(texts)), *orders):
        page = _Page.of([lines[index] for index in order])
        best = _better(best, _exact(wanted, page), order)
        if best is None or best.score < 1:
            best = _better(best, _by_letters(wanted, page), order)
    if best is not None or not by_words:
        return best
    keys, key_lines = _keys(statement), [_keys(text) for text in texts]
    for order in (range(len(texts)), *orders):
        best = _better(best, _by_words(keys, [key_lines[index] for index in order]), order)
    return best


def is_said(statement: str, texts: Sequence[str], *orders: Sequence[int]) -> bool:
    """Whether lines say a statement word for word, and `match_lines` has a score of 1.

    Args:
        statement: The statement.
        texts: The texts of the lines, in reading order.
        orders: Other orders of their indices.
    """
    wanted = words_of(statement)
    lines = [words_of(text) for text in texts]
    found = (
        _exact(wanted, _Page.of([lines[index] for index in order]))
        for order in (range(len(texts)), *orders)
    )
    return any(one is not None and one.score == 1 for one in found)


def is_same_text(one: str, other: str) -> bool:
    """Whether two texts have the same letters, digits and numbers, and there are any."""
    words, others = words_of(one), words_of(other)
    letters = _letters(words)
    return bool(letters) and letters == _letters(others) and same_numbers(words, others) == 1


class _Page(NamedTuple):
    """The words of a page.

    Attributes:
        words: The words.
        lines: The line of each.
        places: Where each begins in the letters, and where the last one ends.
        letters: The letters and digits of all.
    """

    words: list[Word]
    lines: list[int]
    places: list[int]
    letters: str

    @classmethod
    def of(cls, lines: Sequence[Sequence[Word]]) -> _Page:
        words = [word for line in lines for word in line]
        numbers = [number for number, line in enumerate(lines) for _ in line]
        places = list(accumulate((len(word.letters) for word in words), initial=0))
        return cls(words, numbers, places, _letters(words))

    def match(self, first: int, end: int, score: float) -> Match:
        """The lines of the words from `first` to before `end`, but for a few letters at an edge."""
        inside: dict[int, int] = {}
        for line, word in zip(self.lines[first:end], self.words[first:end], strict=True):
            inside[line] = inside.get(line, 0) + len(word.letters)
        most = max(inside.values())
        lines = tuple(
            line
            for line, letters in inside.items()
            if letters == most
            or (letters > 0.1 * most and (letters > 3 or self._is_all(line, letters)))
        )
        return Match(lines, score)

    def _is_all(self, line: int, letters: int) -> bool:
        """Whether a line has no more than so many letters."""
        first, end = bisect.bisect_left(self.lines, line), bisect.bisect_right(self.lines, line)
        return self.places[end] - self.places[first] <= letters


def _letters(words: Iterable[Word]) -> str:
    return "".join(word.letters for word in words)


def _better(best: Match | None, found: Match | None, order: Sequence[int]) -> Match | None:
    if found is None or (best is not None and found.score <= best.score + 1e-9):
        return best
    return Match(tuple(order[index] for index in found.lines), found.score)


def _exact(wanted: Sequence[Word], page: _Page) -> Match | None:
    """The first lines with the statement's very letters that agree best in numbers and words."""
    letters = _letters(wanted)
    if not letters:
        return None
    best: Match | None = None
    at = page.letters.find(letters)
    while at >= 0:
        first = bisect.bisect_right(page.places, at) - 1
        end = bisect.bisect_left(page.places, at + len(letters))
        is_whole = page.places[first] == at and page.places[end] == at + len(letters)
        score = same_numbers(wanted, page.words[first:end])
        if not is_whole:
            score *= 0.0 if len(letters) < _SHORTEST else _WITHIN_WORDS
        if score == 1:
            return page.match(first, end, score)
        if score > (best.score if best else 0.0):
            best = page.match(first, end, score)
        at = page.letters.find(letters, at + 1)
    return best


def _by_letters(wanted: Sequence[Word], page: _Page) -> Match | None:
    """The first words of the page, of all runs of words, whose letters are most like a statement's.

    Likeness is `rapidfuzz.fuzz.ratio`. It is computed of runs that may be as similar as the best
    one so far; `LetterOverlap` says which.
    """
    letters = _letters(wanted)
    if len(letters) < _SHORTEST:
        return None
    overlap = LetterOverlap(letters)
    best: Match | None = None
    # Texts of other lengths are less similar.
    longest = int(len(letters) * (2 / _AGREES - 1))
    shortest = len(letters) / (2 / _AGREES - 1)
    start = 0
    while start < len(page.words):
        place = page.places[start]
        common = overlap.with_beginnings(page.letters[place : place + longest])
        skipped = overlap.skipped(common, best.score if best else _AGREES, longest)
        end = max(start + 1, bisect.bisect_left(page.places, place + shortest))
        while skipped <= 0 and end < len(page.places) and page.places[end] - place <= longest:
            least = best.score if best else _AGREES
            score = (
                _similarity(wanted, letters, page, (start, end), least)
                if overlap.may_reach(common, page.places[end] - place, least)
                else 0.0
            )
            if score > (best.score + 1e-9 if best else 0.0):
                best = page.match(start, end, score)
            end += 1
        start = max(start + 1, bisect.bisect_left(page.places, place + skipped))
    return best


def _similarity(
    wanted: Sequence[Word], letters: str, page: _Page, run: tuple[int, int], least: float
) -> float:
    """The similarity of words of a page to a statement; 0.0: below `least`, or of other numbers.

    Args:
        wanted: The words of the statement.
        letters: Their letters.
        page: The page.
        run: The first word on the page, and the one after the last.
        least: Least similarity of the letters, 0 to 1.
    """
    fuzz: Any = require("rapidfuzz.fuzz", extra="documents")
    start, end = run
    text = page.letters[page.places[start] : page.places[end]]
    score: float = fuzz.ratio(letters, text, score_cutoff=100 * least)
    return min(score / 100, 0.99) * same_numbers(wanted, page.words[start:end]) if score else 0.0


def _by_words(words: Sequence[str], lines: Sequence[Sequence[str]]) -> Match | None:
    """The fewest lines that have most of the statement's words, by weight.

    Lines that lack a number of the statement and have another one contradict it; lines with none
    of its numbers do not say it.
    """
    whole = sum(map(_weight, words))
    if not whole:
        return None
    numbers = set(filter(_has_digit, words))
    found = [_common(words, line) for line in lines]
    best: Match | None = None
    most = 0.0
    for first in range(len(lines)):
        common: set[str] = set()
        others: set[str] = set()
        for last in range(first, min(first + _MOST_LINES, len(lines))):
            if last > first and not found[last] - common:
                continue
            common |= found[last]
            if found[last]:
                others |= set(filter(_has_digit, lines[last]))
            score = sum(map(_weight, common)) / whole
            value = score - _GAIN * (last - first)
            is_said = numbers <= others or bool(others and others <= numbers)
            if is_said and score >= _COMMON and value > most + 1e-9:
                most = value
                chosen = tuple(index for index in range(first, last + 1) if found[index])
                best = Match(chosen, min(score, 0.99))
    return best


def _keys(text: str) -> tuple[str, ...]:
    """The words of a text; numbers by their values, dates by their parts."""
    keys: list[str] = []
    for word in words_of(text, unspaced=False):
        if word.is_number:
            keys += [_number_key(one) for one in word.numbers[0].value.lstrip("-").split()]
        else:
            keys.append(word.letters)
    return tuple(dict.fromkeys(keys))


def _number_key(number: str) -> str:
    """A number; days and months without their zero."""
    return number[1] if len(number) == 2 and number[0] == "0" else number


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


def _weight(word: str) -> float:
    """What a word says: numbers most, words of one or two letters nothing."""
    if _has_digit(word):
        return 4.0 + len(word)
    return 0.0 if len(word) < 3 and word.isascii() else min(max(len(word) - 2.0, 1.0), 8.0)


def _common(words: Iterable[str], line: Sequence[str]) -> set[str]:
    """The words of a statement that a line has."""
    return {word for word in words if any(_is_same(word, other) for other in line)}


def _is_same(word: str, other: str) -> bool:
    if word == other:
        return True
    if min(len(word), len(other)) < _SAME_START or _has_digit(word + other):
        return False
    if word.startswith(other) or other.startswith(word):
        return True
    fuzz: Any = require("rapidfuzz.fuzz", extra="documents")
    return bool(fuzz.ratio(word, other) >= 100 * _SAME_WORD)
