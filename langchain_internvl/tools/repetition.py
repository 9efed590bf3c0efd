"""Detects repetition loops at the end of transcriptions, and other flaws of them."""

from __future__ import annotations

import re
from typing import Literal

from langchain_internvl.reply_text.finish_reasons import FILTERED, REPEATED, is_cut_off

Problem = Literal["length", "repetition", "content_filter"]
"""Why a transcription may be incomplete: the reply reached its limit of tokens, ends in a
repetition loop, or was cut off by a server's content filter."""

_UNLOOPED: dict[object, Problem] = {"length": "length", REPEATED: REPEATED}
"""Problem of a reply without a loop that is noticed, by the finish reason that cut it off."""

_LONGEST_UNIT = 400

_WORD = re.compile(r"[^\W\d_]{2,}")
_TABLE_MARKS = ("|", "\t", "<td")


def check_transcription(text: str, finish_reason: object) -> tuple[str, Problem | None]:
    """The part of a reply to keep as a transcription, and its problem.

    A repetition loop is cut off if the reply reached its limit of tokens, or a server ended it for
    its repetitions. A reply that ended by itself is kept whole, because a table may end in many
    equal rows, but it is flagged too. A content filter ends a reply anywhere, also among equal
    rows: what was read is kept, and the filter is the problem.

    Args:
        text: Text of the reply, without thoughts.
        finish_reason: Its finish reason; those that do not cut a reply off count as its own end.
    """
    if finish_reason == FILTERED:
        return text, FILTERED
    is_complete = not is_cut_off(finish_reason)
    kept = cut_repetition(text, is_complete=is_complete)
    if kept is None:
        return text, _UNLOOPED.get(finish_reason)
    return text if is_complete else kept.rstrip(), "repetition"


def cut_repetition(text: str, *, is_complete: bool) -> str | None:
    """Cut a text after the first repetition of a loop at its end.

    A loop is a unit of up to 400 characters that is repeated to the end of the text. Units without
    a letter or digit, such as leader dots or rules, are layout and not a loop. It needs:

    | the reply ended by | repetitions | characters |
    |---|---|---|
    | its limit of tokens, or a server | 4 | 80 |
    | its limit of tokens, or a server, a unit with a word | 12 | 40 |
    | itself | 20, as a table may end in equal rows | 40 |
    | itself, a unit of three different words outside a table | 5 | 40 |

    Args:
        text: The transcription.
        is_complete: Whether the model ended the reply, rather than the limit of tokens or a server.
            Then the loop may be equal rows of a table, and the whole text should be kept.

    Returns:
        The text up to the end of the first unit; None: there is no loop.
    """
    text = text.rstrip()
    ends = []
    for unit in range(1, min(_LONGEST_UNIT, len(text) // 4) + 1):
        last = text[-unit:]
        if not any(letter.isalnum() for letter in last):
            continue
        # The loop extends as far as each character equals the one a unit later.
        start = len(text) - unit
        while start > 0 and text[start - 1] == text[start - 1 + unit]:
            start -= 1
        length = len(text) - start
        if length >= 4 * unit and _is_loop(last, length, is_complete=is_complete):
            ends.append(start + unit)
    return text[: min(ends)] if ends else None


def _is_loop(unit: str, length: int, *, is_complete: bool) -> bool:
    """Whether a unit is repeated often enough, see `cut_repetition`."""
    # White space after the last repetition was stripped.
    turns = (length + 1) // len(unit)
    words = set(map(str.lower, _WORD.findall(unit)))
    if not is_complete:
        return length >= 80 or (turns >= 12 and length >= 40 and bool(words))
    is_prose = len(words) >= 3 and not any(mark in unit for mark in _TABLE_MARKS)
    return turns >= (5 if is_prose else 20) and length >= 40
