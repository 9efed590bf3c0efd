"""Detects repetition loops at the end of long transcriptions."""

from __future__ import annotations

_LONGEST_UNIT = 400
_TURNS = {True: 20, False: 4}
"""How often a unit is repeated at least: of a text that ended by itself (a table may end in equal
rows), and of one that reached its limit of length."""
_LEAST_LENGTH = 80


def cut_repetition(text: str, *, is_complete: bool) -> str | None:
    """A text up to the end of the first turn of a repetition loop.

    A loop is a unit of up to 400 characters that is repeated to the end of the text, for 80
    characters and at least four times, or twenty if the text ended by itself. A unit without a
    letter or digit, such as leader dots or rules, is print and no loop.

    Args:
        text: What was read.
        is_complete: Whether it ended by itself, not at a limit of length. Then the loop may be
            equal rows of a table, and the text is better kept whole.

    Returns:
        The text up to the end of the first turn; None: there is no loop.
    """
    text = text.rstrip()
    turns = _TURNS[is_complete]
    ends = []
    for unit in range(1, min(_LONGEST_UNIT, len(text) // turns) + 1):
        if not any(letter.isalnum() for letter in text[-unit:]):
            continue
        # The loop lasts as long as each character equals the one a turn later.
        start = len(text) - unit
        while start > 0 and text[start - 1] == text[start - 1 + unit]:
            start -= 1
        if len(text) - start >= max(_LEAST_LENGTH, turns * unit):
            ends.append(start + unit)
    return text[: min(ends)] if ends else None
