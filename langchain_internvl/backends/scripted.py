"""A backend for tests: it returns scripted replies and records the requests."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from json import JSONDecoder

from langchain_core.messages import AIMessage

from langchain_internvl.backends.base import Delta, EngineStats, FinishReason, Request, Usage
from langchain_internvl.errors import BackendError
from langchain_internvl.json_files import parse_json
from langchain_internvl.messages.conversation import Text
from langchain_internvl.messages.convert import to_turns
from langchain_internvl.prompting.segments import Prompt
from langchain_internvl.reply_text.reasoning import CLOSE, OPEN

Reply = str | AIMessage | Exception | Sequence[Delta]


class ScriptedBackend:
    """Returns scripted replies, without a model.

    A reply is one of these:

    - a text, streamed word by word, cut at the request's stop strings and after its `max_tokens`
      words. For a request with choices it is the chosen one, with probability 1;
    - an `AIMessage`: its text, thoughts (`additional_kwargs["reasoning_content"]`) and tool calls
      with their ids, streamed the same way. `invalid_tool_calls` stay malformed. The request must
      have tools (`bind_tools`) if the message has tool calls;
    - a list of `Delta`, passed through unchanged, the last with a finish reason;
    - an exception, which is raised.

    Sampling, grammars and timeouts of requests are ignored.

    Requests have the model's token ids and tiles if the checkpoint's configuration and tokenizer
    and the extra `transformers` are available. Otherwise they have the conversation itself
    (`Request.turns`), without token ids and tiles.

    Example:
        ```python
        backend = ScriptedBackend(["A cat.", AIMessage("", tool_calls=[call]), "A grey one."])
        llm = ChatInternVL(backend=backend)
        llm.invoke("What is it?")
        ```

    Args:
        replies: The replies in the order of the requests (those of a `batch` arrive in any
            order), or a function from a request to its reply.

    Attributes:
        requests: The requests so far.
        closed: Number of replies that have ended or were closed early.
        takes_turns: True: requests may have the conversation instead of token ids.

    Raises:
        TypeError: `replies` is a text, or has an item that is not a reply.
    """

    takes_turns = True

    def __init__(self, replies: Iterable[Reply] | Callable[[Request], Reply]) -> None:
        if isinstance(replies, (str, AIMessage)):
            raise TypeError("replies is a list of replies or a function, not one reply")
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

    def __getstate__(self) -> dict[str, object]:
        """All but the lock, which cannot be pickled; a pickled copy has its own script."""
        return {name: one for name, one in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state, _lock=threading.Lock())

    @property
    def stats(self) -> EngineStats:
        """Number of running replies."""
        return EngineStats(active_rows=len(self.requests) - self.closed)

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Return the next reply; see `Backend.stream`.

        Raises:
            BackendError: The script has no more replies, or its function returned no reply.
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
            if isinstance(reply, (str, AIMessage)):
                yield from _answer(reply, request)
            else:
                yield from reply
        finally:
            with self._lock:
                self.closed += 1

    def close(self) -> None:
        """Do nothing: there are no resources to free."""


_KINDS = (
    "a reply is a text, an AIMessage of text and tool calls, an exception, or a list of Delta "
    "whose last has a finish_reason"
)


def _is_reply(reply: object) -> bool:
    if isinstance(reply, AIMessage):
        if not all(call["name"] for call in reply.invalid_tool_calls):
            return False
        return isinstance(reply.content, str) or all(map(_is_text_block, reply.content))
    if isinstance(reply, (str, Exception)):
        return True
    if not isinstance(reply, Sequence) or not reply:
        return False
    are_deltas = all(isinstance(one, Delta) for one in reply)
    return are_deltas and reply[-1].finish_reason is not None


def _is_text_block(block: object) -> bool:
    """Whether a content block is text, or repeats an entry of `tool_calls`."""
    if isinstance(block, dict):
        return block.get("type") in {"text", "reasoning", "tool_call", "tool_use"}
    return isinstance(block, str)


def _answer(reply: str | AIMessage, request: Request) -> Generator[Delta, None, None]:
    text, ids = (reply, ()) if isinstance(reply, str) else _write(reply, request)
    if request.choices:
        yield from _choice(text, request)
        return
    *first, last = _words(text, request)
    if request.turns:
        last = replace(last, usage=Usage(_count_words(request), len(first) + 1))
    for number, delta in enumerate([*first, last]):
        yield delta if number else replace(delta, call_ids=ids)


def _write(message: AIMessage, request: Request) -> tuple[str, tuple[str, ...]]:
    """A message as text in the model's tool format, and the ids of its tool calls.

    Raises:
        BackendError: The message has tool calls, and the request has no tools.
    """
    (turn,) = to_turns([message])
    text = str(message.text)
    thoughts = _thoughts(message)
    begin = f"{OPEN}\n{thoughts}\n{CLOSE}\n\n" if thoughts else ""
    if not turn.tool_calls:
        return begin + text, ()
    if request.tool_format is None:
        names = ", ".join(call.name for call in turn.tool_calls)
        raise BackendError(
            f"the script calls {names}, and this request has no tools to call; use bind_tools"
        )
    calls = [replace(call, arguments=_kept(call.arguments)) for call in turn.tool_calls]
    frames = request.tool_format.write_calls(calls, after_words=bool(text))
    ids = tuple(call.id or "" for call in turn.tool_calls)
    return begin + text + Prompt(tuple(frames)).to_text(), ids


def _kept(arguments: str) -> str:
    """Arguments of a call that stay malformed.

    The bracket that ends a call may complete them, and what follows an object, such as brackets too
    many, may be left out by what reads calls.
    """
    if _is_json(arguments):
        return arguments
    if _is_json(arguments + "}"):
        return f"{arguments}]"
    begin = len(arguments) - len(arguments.lstrip())
    try:
        _, end = JSONDecoder().raw_decode(arguments, begin)
    except (RecursionError, ValueError):
        return arguments
    return f"{arguments[:end]};{arguments[end:]}"


def _is_json(text: str) -> bool:
    try:
        parse_json(text)
    except ValueError:
        return False
    return True


def _thoughts(message: AIMessage) -> str:
    blocks = [one for one in message.content_blocks if one["type"] == "reasoning"]
    return "\n".join(one.get("reasoning", "") for one in blocks)


def _count_words(request: Request) -> int:
    """Number of words of a conversation, used as its token count."""
    texts = [part.text for turn in request.turns for part in turn.parts if isinstance(part, Text)]
    return sum(len(text.split()) for text in texts)


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
    usage = Usage(_count_words(request), len(text.split())) if request.turns else None
    yield Delta(0, text, "stop", choice_logprobs=tuple(weights), usage=usage)
