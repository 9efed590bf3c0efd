"""Finds the marks with which replies cite pages.

| form | |
|---|---|
| `[1]`, `[1, 2]`, `[1; 2]`, `[1 and 2]`, `[1-3]` | numbers and ranges |
| `[page 1]`, `[p. 1]`, `[pp. 1-2]`, `[\u7b2c1\u9875]`, `[^1]`, `[[1]]` | word, sign, two brackets |
| `\u30101\u3011`, `\u30101\u2020source\u3011`, `\uff3b1\uff3d` | other brackets |
| `[1][2]`, `[1], [2]`, `[1] and [2]` | one after the other: one statement |
| `[1]-[3]` | a range of marks |
| `**[1]**`, `_[1]_`, `([1])`, `<sup>[1]</sup>` | what is around nothing but marks belongs to them |

Brackets in code, links (`[1](https://...)`) and link definitions (`[1]: https://...`) are text.
So are ranges without a word that begin beyond the pages or at 0, without a page beside them:
`[10-20] mm`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from langchain_internvl.documents.markdown_code import code_spans
from langchain_internvl.documents.sentences import last_sentence

_DASH = r"[-\u2010-\u2015]"
_WORD = r"(?:\^|(?:pages?|pgs?\.?|pp?\.?|seiten?|s\.|\u7b2c)\s*)?"
_NUMBER = rf"{_WORD}\d{{1,3}}(?:\s*[\u9875\u9801])?"
_JOIN = rf"\s*(?:[,;&\u3001\uff0c]|and|und|{_DASH}|to|bis)\s*"
_NUMBERS = rf"\s*{_NUMBER}(?:{_JOIN}{_NUMBER})*\s*(?:\u2020[^\[\]\u3010\u3011]*)?"
_MARK = re.compile(
    rf"(?:\[\[{_NUMBERS}\]\]|\[{_NUMBERS}\]|\u3010{_NUMBERS}\u3011|\uff3b{_NUMBERS}\uff3d)"
    r"(?!\(|:\s*(?:<|\w+://))",
    re.IGNORECASE,
)
_AROUND = re.compile(r"\*{1,3}\Z|_{1,3}\Z|[(\uff08]\Z|<sup>\Z", re.IGNORECASE)
"""What may be around a mark, before it: emphasis, a parenthesis, a superscript."""
_CLOSING = {"(": ")", "\uff08": "\uff09", "<sup>": "</sup>"}
"""What ends it, where that differs."""
_LONGEST = len("<sup>")
_NEAR = 1000
"""Number of characters before a mark in which emphasis may begin that its own would end."""
_BETWEEN = re.compile(r"(?:[^\S\n]*[,;])?(?:[^\S\n]*(?:&|and|und))?[^\S\n]*", re.IGNORECASE)
_FROM_TO = re.compile(rf"[^\S\n]*{_DASH}[^\S\n]*")
_RANGE = re.compile(
    rf"(\d{{1,3}})(?:\s*[\u9875\u9801]?\s*(?:{_DASH}|to|bis)\s*[^\d]*?(\d{{1,3}}))?",
    re.IGNORECASE,
)
_NAMED = re.compile(r"\b[ps]|[\u2020\u7b2c\u9875\u9801]", re.IGNORECASE)
"""A word for "page", or a dagger before the name of the source: no range of other things."""
_SOURCE = re.compile(r"\u2020[^\[\]\u3010\u3011]*")
_LIST_ITEM = re.compile(r"\A\s*(?:\d{1,3}[.)])?")
_GOES_ON = re.compile(r"\s*(?:[.,;!?)\u3001\u3002\uff0c\uff1b]|(?:and|und)\b)", re.IGNORECASE)
"""What follows a mark within or at the end of its statement."""
_AND = re.compile(r"\b(?:and|und)\Z", re.IGNORECASE)
_SEPARATORS = frozenset(",;&|\u3001\uff0c\uff1b")


@dataclass(frozen=True)
class Mark:
    """Numbers of pages in a text.

    Attributes:
        start: Where it begins, with the white space before it.
        end: Where it ends; of a leading mark with a colon and the white space after it.
        numbers: The numbers, in their order. Of what a range has beyond the pages, the first and
            the last.
        statement: Where the statement of a leading mark ends, which begins at `end`; None: the
            statement is before the mark.
    """

    start: int
    end: int
    numbers: tuple[int, ...]
    statement: int | None = None


def find_marks(text: str, pages: int) -> Iterator[Mark]:
    """The marks of a reply, in order.

    A mark belongs to the statement before it. It leads the statement that follows on the line, if
    there is one:

    - at the beginning of the line, or of an item of a list: "[1] A.";
    - directly after another statement's mark: "A [1]. [2] B.";
    - after the statement of another leading mark, unless a stop, a comma or "and" follows:
      "[1] A. [2] B.", but "[1] A. B [2]."

    The statement of a leading mark ends before the next mark, or before the statement of that one.

    Args:
        text: The reply.
        pages: Number of pages.
    """
    found = _found(text, pages)
    leading = _leading(text, found)
    for place, (start, end, numbers) in enumerate(found):
        if not leading[place]:
            yield Mark(len(text[:start].rstrip()), end, numbers)
            continue
        stop = _stop(text, found, place)
        after = end + len(text[end:stop]) - len(text[end:stop].lstrip(": \t"))
        if place + 1 < len(found) and stop == found[place + 1][0] and not leading[place + 1]:
            own = last_sentence(text[:stop], after)
            stop = own if own > after else stop
        yield Mark(start, after, numbers, _before_separators(text, after, stop))


_Found: TypeAlias = "list[tuple[int, int, tuple[int, ...]]]"


def _found(text: str, pages: int) -> _Found:
    """Start, end and numbers of marks; those one after the other are one."""
    code = code_spans(text)
    found: _Found = []
    for one in _MARK.finditer(text):
        numbers = _numbers(one[0], pages)
        if not numbers or any(begin <= one.start() < end for begin, end in code):
            continue
        mark = _widened(text, *one.span())
        gap = (found[-1][1], mark[0]) if found else (0, 0)
        is_range = bool(found) and _FROM_TO.fullmatch(text, *gap) is not None
        if is_range or (found and _BETWEEN.fullmatch(text, *gap)):
            start, _, before = found.pop()
            within = range(before[-1] + 1, min(numbers[0], pages + 2)) if is_range else ()
            mark = _widened(text, start, mark[1])
            numbers = tuple(dict.fromkeys((*before, *within, *numbers)))
        found.append((*mark, numbers))
    return found


def _widened(text: str, start: int, end: int) -> tuple[int, int]:
    """A mark with what is around it and nothing else, such as emphasis: `**[1]**`, `([1], [2])`.

    At the beginning of a line its colon may be within: `**[1]:** A.`
    """
    line = text[max(text.rfind("\n", 0, start) + 1, start - _NEAR) : start]
    while around := _AROUND.search(text, max(0, start - _LONGEST), start):
        opening = around[0]
        line = line.removesuffix(opening)
        closing = _CLOSING.get(opening.lower(), opening)
        colon = text.startswith(":", end) and not _has_words(_LIST_ITEM.sub("", line))
        if not text.startswith(closing, end + colon) or _begins_emphasis(line, opening):
            break
        start, end = start - len(opening), end + colon + len(closing)
    return start, end


def _begins_emphasis(before: str, run: str) -> bool:
    """Whether emphasis begins in a text that ends before a run of asterisks or underscores.

    In `**A.**[1]**B.**` those before the mark belong to A, and those after it to B.
    """
    if run[0] not in "*_":
        return False
    # Beside white space alone it is the sign of a list item.
    sign = re.escape(run)
    return len(re.findall(rf"(?<=\S){sign}|{sign}(?=\S)", before)) % 2 == 1


def _leading(text: str, found: _Found) -> list[bool]:
    """Whether each mark leads a statement."""
    leading: list[bool] = []
    last = 0
    for place, (start, end, _) in enumerate(found):
        line = text.rfind("\n", 0, start) + 1
        follows = place > 0 and line <= last  # another mark on the line
        before = text[max(last, line) : start]
        has_before = _has_words(_LIST_ITEM.sub("", before))
        last = end
        after = text[end : _stop(text, found, place)]
        leading.append(
            _has_words(after)
            and (not has_before or (follows and leading[-1]))
            and not (follows and _GOES_ON.match(after))
        )
    return leading


def _stop(text: str, found: _Found, place: int) -> int:
    """Where the next mark begins, or the line of this one ends."""
    end = found[place][1]
    following = found[place + 1][0] if place + 1 < len(found) else len(text)
    line = text.find("\n", end)
    return following if line < 0 else min(following, line)


def _before_separators(text: str, begin: int, end: int) -> int:
    """Where a text from `begin` to `end` ends without white space, separators and "and".

    From its end, a step for each: a search tries each of a run of separators as the first.
    """
    while end > begin:
        if text[end - 1].isspace() or text[end - 1] in _SEPARATORS:
            end -= 1
        elif _AND.match(text, max(begin, end - 3), end):
            end -= 3
        else:
            break
    return end


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _numbers(mark: str, pages: int) -> tuple[int, ...]:
    """The numbers of a mark; empty if a range runs downwards, or none of pages is meant."""
    written = _RANGE.findall(_SOURCE.sub("", mark))
    ranges = [(int(first), int(last or first)) for first, last in written]
    begins_on_page = any(0 < low <= pages for low, _ in ranges)
    others = any(last for _, last in written) and not _NAMED.search(mark) and not begins_on_page
    if others or any(high < low for low, high in ranges):
        return ()
    numbers: list[int] = []
    for low, high in ranges:
        numbers += range(low, min(high, pages) + 1)
        if high > pages:
            numbers += (max(low, pages + 1), high)
    return tuple(dict.fromkeys(numbers))
