"""A backend for tests: it says what it is told to, and records what it was asked."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Generator, Iterable, Sequence

from langchain_internvl.backends.base import Delta, EngineStats, FinishReason, Request
from langchain_internvl.errors import BackendError

Reply = str | Exception | Sequence[Delta]


class ScriptedBackend:
    """Answers from a script, without a model.

    A reply that is a text comes word by word, cut at the request's stop texts and after its
    `max_tokens` words; deltas come as they are, the last with a finish reason; an exception is
    raised. Probabilities, grammars and timeouts of requests are not looked at. Of a request's
    choices, the text that the script has is the certain one.

    Prompts are made as for the model itself, so the checkpoint's small files (configuration and
    tokenizer) have to be there: name a folder that has them.

    Example:
        ```python
        backend = ScriptedBackend(["A cat.", "A grey one."])
        llm = ChatInternVL(model=folder, backend=backend)
        llm.invoke("What is it?")
        assert "What is it?" in llm.get_text(backend.requests[0].prompt_ids)
        ```

    Args:
        replies: The replies in the order in which requests arrive (which is any order for those
            of a `batch`), or a function that makes the reply to a request.

    Attributes:
        requests: The requests so far.
        closed: How many replies have ended or were broken off.

    Raises:
        TypeError: `replies` is a text, or holds something that is no reply.
    """

    def __init__(self, replies: Iterable[Reply] | Callable[[Request], Reply]) -> None:
        if isinstance(replies, str):
            raise TypeError("replies is a list of replies or a function, not one text")
        self.requests: list[Request] = []
        self.closed = 0
        self._make = replies if callable(replies) else None
        self._replies = [] if callable(replies) else list(replies)
        self._lock = threading.Lock()
        for number, reply in enumerate(self._replies, 1):
            if not _is_reply(reply):
                raise TypeError(f"reply {number} is {reply!r}; {_KINDS}")

    def __deepcopy__(self, _memo: dict[int, object]) -> ScriptedBackend:
        """Copies of a chat model share their engine."""
        return self

    @property
    def stats(self) -> EngineStats:
        """Replies that have begun and not ended."""
        return EngineStats(active_rows=len(self.requests) - self.closed)

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Give the next reply; see `Backend.stream`.

        Raises:
            BackendError: The script has no more replies, or its function gave none.
        """
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
        try:
            if self._make is None and number >= len(self._replies):
                raise BackendError(f"the script has {number} replies, and this is one request more")
            reply = self._replies[number] if self._make is None else self._make(request)
            if not _is_reply(reply):
                raise BackendError(f"the reply to request {number + 1} is {reply!r}; {_KINDS}")
            if isinstance(reply, Exception):
                raise reply
            if isinstance(reply, str):
                yield from _choice(reply, request) if request.choices else _words(reply, request)
            else:
                yield from reply
        finally:
            with self._lock:
                self.closed += 1

    def close(self) -> None:
        """Nothing to free."""


_KINDS = "a reply is a text, an exception, or a list of Delta whose last has a finish_reason"


def _is_reply(reply: object) -> bool:
    if isinstance(reply, (str, Exception)):
        return True
    if not isinstance(reply, Sequence) or not reply:
        return False
    are_deltas = all(isinstance(one, Delta) for one in reply)
    return are_deltas and reply[-1].finish_reason is not None


def _words(text: str, request: Request) -> Generator[Delta, None, None]:
    found = [text.find(stop) for stop in request.stop if stop and stop in text]
    words = re.findall(r"\s*\S+", text[: min(found)] if found else text) or [""]
    reason: FinishReason = "stop" if len(words) <= request.max_tokens else "length"
    words = words[: request.max_tokens]
    for number, word in enumerate(words, 1):
        last = number == len(words)
        yield Delta(0, word.lstrip() if number == 1 else word, reason if last else None)


def _choice(text: str, request: Request) -> Generator[Delta, None, None]:
    weights = [0.0 if choice.text == text else -math.inf for choice in request.choices]
    if not any(weight == 0 for weight in weights):
        known = [choice.text for choice in request.choices]
        raise BackendError(f"the script says {text!r}, which is none of the choices {known}")
    yield Delta(0, text, "stop", choice_logprobs=tuple(weights))
