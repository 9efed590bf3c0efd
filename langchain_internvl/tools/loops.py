"""Models that read long pages now and then run in a circle; this notices."""

from __future__ import annotations

_LONGEST_UNIT = 400
_LEAST_TURNS = 4
_LEAST_LENGTH = 80
_LINES = 8


def before_loop(text: str) -> str | None:
    """A text up to where it runs in a circle, with one turn of it.

    A circle is a unit of up to 400 characters that is repeated to the end of the text, at least
    four times and for 80 characters; or eight equal lines one after the other, anywhere. What has
    no letter or digit, such as leader dots or rules, is print.

    Args:
        text: What was read.

    Returns:
        The text up to the end of the first turn; None: it does not run in a circle.
    """
    found = [end for end in (_tail(text), _equal_lines(text)) if end is not None]
    return text[: min(found)] if found else None


def _tail(text: str) -> int | None:
    """Where the first turn of a circle that lasts to the end is over."""
    text = text.rstrip()
    ends = []
    for unit in range(1, min(_LONGEST_UNIT, len(text) // _LEAST_TURNS) + 1):
        if not any(letter.isalnum() for letter in text[-unit:]):
            continue
        # The circle lasts as long as each character equals the one a turn later.
        start = len(text) - unit
        while start > 0 and text[start - 1] == text[start - 1 + unit]:
            start -= 1
        length = len(text) - start
        if length >= max(_LEAST_LENGTH, _LEAST_TURNS * unit):
            ends.append(start + unit)
    return min(ends, default=None)


def _equal_lines(text: str) -> int | None:
    """Where the first of many equal lines ends."""
    end = first_end = turns = 0
    before = None
    for line in text.splitlines(keepends=True):
        end += len(line)
        words = line.strip()
        if words == before and any(letter.isalnum() for letter in words):
            turns += 1
            if turns >= _LINES:
                return first_end
        else:
            turns, first_end, before = 1, end, words
    return None
