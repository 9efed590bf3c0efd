"""Which finish reasons mean that a reply is incomplete."""

from __future__ import annotations

from typing import Final

FILTERED: Final = "content_filter"
"""Finish reason of replies that a server's content filter cut off; a retry would not help."""

REPEATED: Final = "repetition"
"""Finish reason of replies that a server cut off in a repetition loop (vLLM's
`repetition_detection`), which may be shorter than the loops that are noticed here."""

CUT_OFF = frozenset({"length", FILTERED, REPEATED})
"""Finish reasons of incomplete replies: the limit of tokens, and the two above."""


def is_cut_off(reason: object) -> bool:
    """Whether a reply with this finish reason is incomplete; other reasons count as its own end."""
    return reason in CUT_OFF


def advice_about(reason: object) -> str:
    """Why a reply was cut off and what to do, for error messages; "": it was not cut off."""
    return _ADVICE.get(str(reason), "")


_ADVICE = {
    "length": "cut off: raise max_tokens",
    FILTERED: "cut off by the server's content filter",
    REPEATED: "cut off by the server, which found repetitions",
}
