"""The two prompt formats of servers: token ids (LMDeploy only) and messages (any server)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from langchain_internvl.backends.base import Usage
from langchain_internvl.errors import BrokenReplyError

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Delta, Request
    from langchain_internvl.backends.server.events import Chunk


class Reader(Protocol):
    """Reads one reply."""

    def push(self, chunk: Chunk) -> Iterator[Delta]:
        """The deltas of a chunk; nothing is read after a delta with a finish reason."""

    def end(self, reason: str, usage: Usage | None) -> Delta:
        """The last delta, once the server has ended the reply."""


class Dialect(Protocol):
    """Conversion of requests to JSON, and of chunks to deltas."""

    def body(self, request: Request) -> dict[str, Any]:
        """The request as JSON, without `model` and `stream`.

        Raises:
            InternVLError: The server's API cannot express the request.
        """

    def reader(self, request: Request) -> Reader:
        """A reader of its reply."""


def read_usage(reported: Mapping[str, Any] | None) -> Usage | None:
    """The token counts of a reply; None: the server sent none.

    Raises:
        BrokenReplyError: A count is not a non-negative integer.
    """
    if reported is None or reported.get("prompt_tokens") is None:
        return None
    details = reported.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else 0
    counts = reported["prompt_tokens"], reported.get("completion_tokens"), cached
    return Usage(*map(_count, counts))


_MOST_TOKENS = 2**53


def _count(value: Any) -> int:
    try:
        count = int(value or 0)
        if isinstance(value, bool) or (isinstance(value, float) and count != value):
            count = -1
    except (OverflowError, TypeError, ValueError):
        count = -1
    if not 0 <= count <= _MOST_TOKENS:
        raise BrokenReplyError(f"the server's usage has {str(value)[:50]!r} for a count of tokens")
    return count
