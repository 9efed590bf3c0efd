"""A backend for tests: it says what it is told to, and records what it was asked."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator, Iterable, Sequence

from langchain_internvl.backends.base import Delta, EngineStats, FinishReason, Request
from langchain_internvl.errors import BackendError

Reply = str | Exception | Sequence[Delta]


class ScriptedBackend:
    """Answers from a script, without a model.

    A reply that is a text comes word by word, cut at the request's stop texts and after its
    `max_tokens` words; deltas come as they are; an exception is raised.

    Example:
        ```python
        backend = ScriptedBackend(["A cat.", "A grey one."])
        llm = ChatInternVL(model=folder, backend=backend)
        llm.invoke("What is it?")
        assert backend.requests[0].max_tokens == 1024
        ```

    Args:
        replies: The replies in the order of the requests, or a function that makes a reply to a
            request.

    Attributes:
        requests: The requests so far.
        closed: How many replies have ended or were broken off.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[Request], Reply]) -> None:
        self.requests: list[Request] = []
        self.closed = 0
        self._make = replies if callable(replies) else None
        self._replies = [] if callable(replies) else list(replies)
        self._lock = threading.Lock()

    @property
    def stats(self) -> EngineStats:
        """Replies that have begun and not ended."""
        return EngineStats(active_rows=len(self.requests) - self.closed)

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Give the next reply; see `Backend.stream`.

        Raises:
            BackendError: The script has no more replies.
        """
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
        try:
            if self._make is None and number >= len(self._replies):
                raise BackendError(f"the script has {number} replies, and this is one request more")
            reply = self._replies[number] if self._make is None else self._make(request)
            if isinstance(reply, Exception):
                raise reply
            yield from _words(reply, request) if isinstance(reply, str) else reply
        finally:
            with self._lock:
                self.closed += 1

    def close(self) -> None:
        """Nothing to free."""


def _words(text: str, request: Request) -> Generator[Delta, None, None]:
    found = [text.find(stop) for stop in request.stop if stop and stop in text]
    words = re.findall(r"\s*\S+", text[: min(found)] if found else text) or [""]
    reason: FinishReason = "stop" if len(words) <= request.max_tokens else "length"
    words = words[: request.max_tokens]
    for number, word in enumerate(words, 1):
        last = number == len(words)
        yield Delta(0, word.lstrip() if number == 1 else word, reason if last else None)
