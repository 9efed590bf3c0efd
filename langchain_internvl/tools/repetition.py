"""Detects repetition loops at the end of long transcriptions."""

from __future__ import annotations

_LONGEST_UNIT = 400
_TURNS = {True: 20, False: 4}
"""Minimum number of repetitions: of a complete text (a table may end in equal rows), and of a text
that reached its limit of tokens."""
_LEAST_LENGTH = 80


def cut_repetition(text: str, *, is_complete: bool) -> str | None:
    """Cut a text after the first repetition of a loop at its end.

    A loop is a unit of up to 400 characters that is repeated to the end of the text, over at least
    80 characters and four times, or twenty times if the text is complete. Units without a letter
    or digit, such as leader dots or rules, are layout and not a loop.

    Args:
        text: The transcription.
        is_complete: Whether the model ended the reply, rather than the limit of tokens. Then the
            loop may be equal rows of a table, and the whole text should be kept.

    Returns:
        The text up to the end of the first unit; None: there is no loop.
    """
    text = text.rstrip()
    turns = _TURNS[is_complete]
    ends = []
    for unit in range(1, min(_LONGEST_UNIT, len(text) // turns) + 1):
        if not any(letter.isalnum() for letter in text[-unit:]):
            continue
        # The loop extends as far as each character equals the one a unit later.
        start = len(text) - unit
        while start > 0 and text[start - 1] == text[start - 1 + unit]:
            start -= 1
        if len(text) - start >= max(_LEAST_LENGTH, turns * unit):
            ends.append(start + unit)
    return text[: min(ends)] if ends else None
