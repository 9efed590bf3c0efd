"""Which finish reasons mean that a reply is incomplete."""

from __future__ import annotations

FILTERED = "content_filter"
"""Finish reason of replies that a server's content filter cut off; a retry would not help."""

CUT_OFF = frozenset({"length", FILTERED, "repetition"})
"""Finish reasons of incomplete replies: the limit of tokens, a server's content filter, and a
server's detection of repetitions (vLLM's `repetition_detection`)."""


def is_cut_off(reason: object) -> bool:
    """Whether a reply with this finish reason is incomplete; other reasons count as its own end."""
    return reason in CUT_OFF


def advice_about(reason: object) -> str:
    """Why a reply was cut off and what to do, for error messages; "": it was not cut off."""
    return _ADVICE.get(str(reason), "")


_ADVICE = {
    "length": "cut off: raise max_tokens",
    FILTERED: "cut off by the server's content filter",
    "repetition": "cut off by the server, which found repetitions",
}
