"""Replies without the line breaks and the indentation of JSON and lists, which place nothing."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator

_WHITE = re.compile(r"\s{2,}")


class Unindented:
    """A text in which white space with a line break is one or two line breaks.

    Patterns bound the white space that they match, so that they take linear time; JSON is indented
    as deeply as it is nested. White space between two words stays, as it may be in a label.

    Attributes:
        text: The text without indentation.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self._starts = [0]
        self._shifts = [0]
        self.text = "".join(self._parts(text))

    def place(self, index: int) -> int:
        """The place in the original of a character of the text."""
        return index + self._shifts[bisect_right(self._starts, index) - 1]

    def _parts(self, text: str) -> Iterator[str]:
        end = 0
        for match in _WHITE.finditer(text):
            breaks = match.group().count("\n")
            if not breaks or _is_in_words(match):
                continue
            yield text[end : match.start()]
            yield "\n\n"[:breaks]
            end = match.end()
            length = match.start() - self._shifts[-1] + min(breaks, 2)
            self._starts.append(length)
            self._shifts.append(end - length)
        yield text[end:]


def _is_in_words(match: re.Match[str]) -> bool:
    """Whether white space has a letter on both sides."""
    text, (start, end) = match.string, match.span()
    return text[start - 1 : start].isalpha() and text[end : end + 1].isalpha()
