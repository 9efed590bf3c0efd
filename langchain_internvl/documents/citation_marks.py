"""Finds the marks with which replies cite pages.

| form | |
|---|---|
| `[1]`, `[1, 2]`, `[1; 2]`, `[1 and 2]`, `[1-3]` | numbers and ranges |
| `[page 1]`, `[p. 1]`, `[pp. 1-2]`, `[^1]`, `[[1]]` | with a word or sign, in two brackets |
| `\u30101\u3011`, `\u30101\u2020source\u3011`, `\uff3b1\uff3d` | other brackets |
| `[1][2]`, `[1], [2]`, `[1] and [2]` | one after the other: one statement |

Brackets in code, links (`[1](https://...)`) and link definitions (`[1]: https://...`) are text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_WORD = r"(?:\^|(?:pages?|pp?\.?|seiten?|s\.)\s*)?"
_JOIN = r"\s*(?:[,;&\u3001\uff0c]|and|und|[-\u2013\u2014]|to|bis)\s*"
_NUMBERS = rf"\s*{_WORD}\d{{1,3}}(?:{_JOIN}{_WORD}\d{{1,3}})*\s*(?:\u2020[^\[\]\u3010\u3011]*)?"
_ONE = (
    rf"(?:\[\[{_NUMBERS}\]\]|\[{_NUMBERS}\]|\u3010{_NUMBERS}\u3011|\uff3b{_NUMBERS}\uff3d)"
    r"(?!\(|:\s*(?:<|\w+://))"
)
_BETWEEN = r"(?:[^\S\n]*(?:[,;&]|and|und))?[^\S\n]*"
_MARKS = re.compile(rf"{_ONE}(?:{_BETWEEN}{_ONE})*", re.IGNORECASE)
_RANGE = re.compile(
    r"(\d{1,3})(?:\s*(?:[-\u2013\u2014]|to|bis)\s*[^\d]*?(\d{1,3}))?", re.IGNORECASE
)
_CODE = re.compile(
    r"^[ \t]*(`{3,}|~{3,})[^\n]*\n.*?(?:^[ \t]*\1[ \t]*$|\Z)"
    r"|(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\2(?!`)",
    re.DOTALL | re.MULTILINE,
)
_LIST_ITEM = re.compile(r"\s*(?:\d{1,3}[.)])?")


@dataclass(frozen=True)
class Mark:
    """Numbers of pages in a text.

    Attributes:
        start: Where it begins, with the white space before it.
        end: Where it ends; of a leading mark with a colon and the white space after it.
        numbers: The numbers, in their order.
        statement: Where the statement of a leading mark ends, which begins at `end`; None: the
            statement is before the mark.
    """

    start: int
    end: int
    numbers: tuple[int, ...]
    statement: int | None = None


def find_marks(text: str) -> Iterator[Mark]:
    """The marks of a reply, in order.

    A mark belongs to the statement before it. At the beginning of a line, or directly after
    another statement's mark, it leads the statement that follows on the line, if there is one.

    Args:
        text: The reply.
    """
    code = [found.span() for found in _CODE.finditer(text)]
    found = [
        (one.start(), one.end(), numbers)
        for one in _MARKS.finditer(text)
        if (numbers := _numbers(one[0]))
        and not any(begin <= one.start() < end for begin, end in code)
    ]
    last = 0
    for place, (start, end, numbers) in enumerate(found):
        following = found[place + 1][0] if place + 1 < len(found) else len(text)
        line = text.find("\n", end)
        stop = following if line < 0 else min(following, line)
        before = text[max(last, text.rfind("\n", 0, start) + 1) : start]
        before = before[_LIST_ITEM.match(before).end() :]  # type: ignore[union-attr]
        last = end
        if _has_words(before) or not _has_words(text[end:stop]):
            yield Mark(len(text[:start].rstrip()), end, numbers)
            continue
        after = end + len(text[end:stop]) - len(text[end:stop].lstrip(": \t"))
        yield Mark(start, after, numbers, after + len(text[after:stop].rstrip()))


def _has_words(text: str) -> bool:
    return any(letter.isalnum() for letter in text)


def _numbers(marks: str) -> tuple[int, ...]:
    """The numbers of marks; empty if a range runs downwards."""
    numbers: list[int] = []
    for first, last in _RANGE.findall(re.sub(r"\u2020[^\[\]\u3010\u3011]*", "", marks)):
        if last and int(last) < int(first):
            return ()
        numbers += range(int(first), int(last or first) + 1)
    return tuple(dict.fromkeys(numbers))
