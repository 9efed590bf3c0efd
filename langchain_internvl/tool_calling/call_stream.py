"""Splits a streamed reply into text and tool calls.

Depends on a tool format only, not on messages or grammars. Replies generated without a grammar
are supported: a malformed tool call becomes a call whose arguments cannot be parsed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_internvl.reply_text.stop_strings import StopFilter, begun_length

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from langchain_internvl.prompting.tool_formats import ToolFormat

_FENCE = r"\s*(?:`{3,}(?:json)?\s*)?"
"""Pattern of a fence of Markdown, which some models write around a call; or of nothing."""

_HEAD = re.compile(
    _FENCE + r'\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)'
)
"""Pattern of the beginning of a tool call, up to its arguments."""

_TAIL = re.compile(r"\s*,.*|[\s}\]]*(?:`{3,}\s*)?", re.DOTALL)
"""Pattern of the rest of a tool call after its arguments, without the closing marker."""

_CLOSERS = {"{": "}", "[": "]"}


@dataclass(frozen=True)
class CallPiece:
    """A piece of a call.

    Attributes:
        index: Index of the call in the reply, from 0.
        arguments: Piece of the arguments, as JSON text; the raw text, if the call is malformed.
        name: Name of the tool, in the first piece only.
        id: Identifier of the call, in the first piece only.
    """

    index: int
    arguments: str
    name: str | None = None
    id: str | None = None


class CallStream:
    """Splits a streamed reply.

    Text keeps its order. White space around calls is dropped, except between the text before and
    after a call. A call with incomplete arguments gets an unmatched bracket, so that parsers of
    partial JSON do not accept it as complete.

    Args:
        tools: The format of calls.
        stop: Stop strings, which end the reply in its text and have no effect in arguments.
        either: The reply is text or calls, so a call after text is text.
        must: The reply is calls alone.

    With `either` or `must`, a reply truncated at the beginning of a call is an incomplete call.
    """

    def __init__(
        self,
        tools: ToolFormat,
        stop: Sequence[str] = (),
        *,
        either: bool = False,
        must: bool = False,
    ) -> None:
        self._either = either
        self._must = must
        self._trigger = tools.trigger
        self._opening = tools.open_call.strip()
        self._closing = tools.close_call.strip()
        self._shown: list[str] = []
        self._pieces: list[CallPiece] = []
        self._stop = StopFilter(stop)
        self._is_last = False
        self._held = ""
        self._space = ""  # white space, kept or dropped depending on the next text
        self._said = False
        self._parted = False  # whether a call has come since the last words
        self._spaced = False  # whether white space preceded that call
        self._calls = 0
        self._read: Callable[[], bool] = self._words
        self._arguments = _Brackets()

    @property
    def is_stopped(self) -> bool:
        """Whether a stop string has ended the reply."""
        return self._stop.stopped_at is not None

    def push(self, text: str, *, last: bool = False) -> tuple[str, list[CallPiece]]:
        """Add text of the reply.

        Args:
            text: The text.
            last: Whether the reply ends with it.

        Returns:
            Text and pieces of calls that further input cannot change.
        """
        self._held += text
        self._is_last = last
        while self._read():
            pass
        said, pieces = "".join(self._shown), self._pieces
        self._shown, self._pieces = [], []
        return said, pieces

    def _words(self) -> bool:
        """Read text up to a call; a possible prefix of the trigger is held back."""
        said, trigger, rest = self._held.partition(self._trigger)
        begun = 0 if trigger else begun_length(said, self._trigger)
        said, held = said[: len(said) - begun], said[len(said) - begun :]
        allows_text = self._said or bool((self._stop.held + said).strip())
        if self._either and allows_text:
            said, trigger, self._held = self._held, "", ""
        elif self._is_last and (self._must or self._either) and not allows_text:
            trigger, self._held = trigger or held, ""
        elif self._is_last and not trigger:
            said, self._held = said + held, ""
        elif not trigger:
            self._held = held
        self._say(self._stop.push(said, last=bool(trigger) or self._is_last))
        if self.is_stopped:
            self._held = ""
            return False
        if trigger:
            self._held, self._parted, self._spaced = trigger + rest, True, bool(self._space)
            self._read = self._head
        return bool(trigger)

    def _say(self, text: str) -> None:
        if not self._said or (self._parted and self._spaced):
            text = text.lstrip()
        shown = text.rstrip()
        if not shown:
            self._space += text
            return
        between = "\n" if self._parted and self._said and text[0] == shown.lstrip()[0] else ""
        self._shown.append((self._space or between) + shown)
        self._space, self._said, self._parted = text[len(shown) :], True, False

    def _head(self) -> bool:
        """Read the beginning of a call, up to its arguments."""
        body = self._held.removeprefix(self._opening)
        found = _HEAD.match(body) if self._held.startswith(self._opening) else None
        name = None if found is None else _read_name(found[1])
        if found and name is not None:
            self._begin(name)
            self._held, self._arguments = body[found.end() :], _Brackets()
            self._read = self._inside
            return True
        end = self._held.find(self._closing, 1)
        if end < 0 and not self._is_last:
            return False
        end = len(self._held) if end < 0 else end + len(self._closing)
        whole, self._held = self._held[:end], self._held[end:]
        self._no_head(whole)
        self._read = self._words
        return bool(self._held)

    def _no_head(self, whole: str) -> None:
        """A call in another form: its keys in another order, or malformed."""
        call = _read_call(whole.removeprefix(self._opening).removesuffix(self._closing))
        name, arguments = (None, whole + _misfit(whole)) if call is None else call
        self._begin(name)
        self._pieces.append(CallPiece(self._calls - 1, arguments))

    def _begin(self, name: str | None) -> None:
        self._pieces.append(CallPiece(self._calls, "", name, f"call_{uuid4().hex[:24]}"))
        self._calls += 1

    def _inside(self) -> bool:
        """Read the arguments of a call."""
        text, index = self._held, self._calls - 1
        end = self._arguments.read(text, self._closing)
        if end > 0:
            self._pieces.append(CallPiece(index, text[:end]))
        self._held = text[end:]
        broken = self._held.startswith(self._closing)
        if not (self._arguments.is_done or broken or self._is_last):
            return False
        if not self._arguments.is_done:
            self._pieces.append(CallPiece(index, self._arguments.misfit))
        self._read = self._tail
        return True

    def _tail(self) -> bool:
        """Read the rest of a call after its arguments.

        If it is neither brackets, nor further keys, nor a fence, such as a second object, the call
        is malformed: which of the two is meant cannot be known.
        """
        tail, closing, rest = self._held.partition(self._closing)
        if not closing and not self._is_last:
            return False
        if not _TAIL.fullmatch(tail):
            self._pieces.append(CallPiece(self._calls - 1, tail + _misfit(tail)))
        self._held = rest
        self._read = self._words
        return bool(rest)


def _misfit(text: str) -> str:
    """A suffix that makes a partial JSON text unparsable."""
    brackets = _Brackets()
    while text:
        text = text[brackets.read(text) :]
    return brackets.misfit


def _read_name(quoted: str) -> str | None:
    try:
        return str(json.loads(quoted)) or None
    except ValueError:
        return None


def _without_fence(body: str) -> str:
    fence = re.match(_FENCE, body)
    inner = body[fence.end() if fence else 0 :].rstrip()
    return inner.rstrip("`") if inner.endswith("```") else inner


def _read_call(body: str) -> tuple[str, str] | None:
    """Name and arguments (JSON text) of a call; None: the text is not a call."""
    try:
        said = json.loads(_without_fence(body))
        name, arguments = said["name"], said.get("arguments", said.get("parameters"))
        arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return None
    arguments = {} if arguments is None else arguments
    is_call = isinstance(name, str) and name != "" and isinstance(arguments, dict)
    return (name, json.dumps(arguments, ensure_ascii=False)) if is_call else None


class _Brackets:
    """Follows the brackets of a JSON text, up to where the first one closes."""

    def __init__(self) -> None:
        self.is_done = False
        self._open: list[str] = []
        self._in_string = False
        self._escaped = False

    @property
    def misfit(self) -> str:
        """A suffix that makes the text so far unparsable."""
        wrong = "]" if not self._open or self._open[-1] == "}" else "}"
        return ("\\" if self._escaped else "") + ('"' if self._in_string else "") + wrong

    def read(self, text: str, closing: str = "") -> int:
        """Read the next piece of the text.

        Args:
            text: The piece.
            closing: Marker that ends the JSON early, outside strings; "": none.

        Returns:
            Index in `text` at which the JSON ends, or may end depending on further input.
        """
        for place, char in enumerate(text):
            if self._in_string:
                self._in_string = char != '"' or self._escaped
                self._escaped = char == "\\" and not self._escaped
            elif char == closing[:1] and closing.startswith(text[place : place + len(closing)]):
                return place
            elif char == '"':
                self._in_string = True
            elif char in _CLOSERS:
                self._open.append(_CLOSERS[char])
            elif char in "}]" and self._close(char):
                return place + 1
        return len(text)

    def _close(self, bracket: str) -> bool:
        """Close a bracket; whether it was the first."""
        if self._open[-1:] == [bracket]:
            self._open.pop()
        self.is_done = not self._open
        return self.is_done
