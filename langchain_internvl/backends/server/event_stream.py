"""Event streams (server-sent events) as servers of chat completions send them.

Lines and events follow the WHATWG's HTML standard, sections 9.2.5 and 9.2.6: lines end with LF, CR
or CRLF, the data lines of an event are joined with line feeds, and a blank line ends the event.
Four things that such servers send are accepted in addition:

- JSON without a field name, on one line or several: LMDeploy's proxy sends its errors in this way,
  and some servers send a whole reply although a stream was requested;
- events without blank lines between them, if the data of each are JSON or `[DONE]`;
- a last event without a blank line after it;
- a field `error` with the data of an event of that name, as llama.cpp sends errors.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass

from langchain_internvl.errors import BrokenReplyError
from langchain_internvl.json_files import parse_json

MOST_LINE_BYTES = 16 << 20
"""Maximum length of a line, and of the data of an event. An event is one chunk, or a whole reply.
"""

MOST_REPLY_BYTES = 256 << 20
"""Maximum length of the stream of one reply, log probabilities included."""

DONE = "[DONE]"
"""Data of the last event of a stream."""

_LINE_ENDS = re.compile(rb"\r\n|\r|\n")
_BARE = ("{", '"', "[")
"""First characters of JSON without a field name."""

_FIELD = re.compile(r"[\w-]*:")
"""Begin of a field or of a comment; no line of a JSON text has it."""

_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*\\?"?')
"""A JSON string, or its beginning at the end of a line."""


@dataclass(frozen=True)
class ServerEvent:
    """One event.

    Attributes:
        name: Value of the field `event`; "": none.
        data: Its data lines, joined with line feeds; not empty.
    """

    name: str
    data: str


class _Data:
    """The data lines of one event."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._size = 0
        self._depth = 0  # of the brackets, if the data begin with one
        self._may_be_json = False

    def add(self, line: str) -> None:
        """Add a line.

        Raises:
            BrokenReplyError: The data are longer than `MOST_LINE_BYTES`.
        """
        self._size += len(line)
        if self._size > MOST_LINE_BYTES:
            raise BrokenReplyError(
                f"the server sent an event of more than {MOST_LINE_BYTES >> 20} MiB"
            )
        # After its last bracket a JSON text has no further line.
        self._may_be_json = self.is_open or not self.lines
        if self.is_open or (not self.lines and line.lstrip().startswith(("{", "["))):
            rest = _STRING.sub("", line)
            self._depth += rest.count("{") + rest.count("[") - rest.count("}") - rest.count("]")
        self.lines.append(line)

    @property
    def is_open(self) -> bool:
        """Whether the data begin as JSON whose last bracket is missing."""
        return self._depth > 0

    def is_whole(self) -> bool:
        """Whether nothing can follow: the data are JSON or the end marker."""
        if self.is_open or not self._may_be_json:
            return False
        text = "\n".join(self.lines).strip()
        if text == DONE:
            return True
        try:
            parse_json(text)
        except ValueError:
            return False
        return True


class EventParser:
    """Joins lines to events; the fields `id` and `retry`, comments and unknown fields are ignored.

    A request is never resumed or repeated by itself, which is what `id` and `retry` are for.
    """

    def __init__(self) -> None:
        self._is_first = True
        self._name = ""
        # A name after whole data: the next line says whether it is this event's or the next one's.
        self._later_name: str | None = None
        self._data = _Data()
        self._is_bare = False

    def push(self, line: str) -> ServerEvent | None:
        """The event that a line completes, if any.

        Raises:
            BrokenReplyError: The data of the event are longer than `MOST_LINE_BYTES`.
        """
        if self._is_first:
            line, self._is_first = line.removeprefix("\ufeff"), False
        if not line:
            return self.end()
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            before = self._cut() if self._is_bare or self._data.is_whole() else None
            self._data.add(value)
            return before
        if field == "event":
            return self._push_name(value)
        if field == "error" and value.lstrip().startswith("{"):
            before = self._cut()
            self._name = "error"
            self._data.add(value)
            return before
        return None if _FIELD.match(line) else self._push_bare(line)

    def _push_name(self, name: str) -> ServerEvent | None:
        before = self._cut() if self._is_bare else None
        if self._data.is_whole():
            self._later_name = name
        else:
            self._name = name
        return before

    def _push_bare(self, line: str) -> ServerEvent | None:
        """The event before a line without a field name, if it begins another one."""
        if self._data.is_open:
            self._data.add(line)  # JSON without field names on its further lines
            return None
        if not line.lstrip().startswith(_BARE):
            return None
        before = self._cut()
        self._is_bare = True
        self._data.add(line)
        return before

    def end(self) -> ServerEvent | None:
        """The event so far: at a blank line, or at the end of the stream."""
        if self._later_name is not None:
            self._name, self._later_name = self._later_name, None
        event = self._cut()
        self._name = ""
        return event

    def _cut(self) -> ServerEvent | None:
        """The event so far, which the first line of the next one ends."""
        name, data = self._name, "\n".join(self._data.lines)
        self._data, self._is_bare = _Data(), False
        if self._later_name is not None:
            self._name, self._later_name = self._later_name, None
        elif data.strip():
            self._name = ""
        return ServerEvent(name, data) if data.strip() else None


async def read_events(pieces: AsyncIterator[bytes]) -> AsyncGenerator[ServerEvent, None]:
    """The events of a body.

    Raises:
        BrokenReplyError: An event is longer than `MOST_LINE_BYTES`, or the body than
            `MOST_REPLY_BYTES`.
    """
    parser = EventParser()
    async with aclosing(split_lines(pieces)) as lines:
        async for line in lines:
            event = parser.push(line)
            if event is not None:
                yield event
    last = parser.end()
    if last is not None:
        yield last


async def split_lines(pieces: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The lines of a body, which end with LF, CR or CRLF only.

    JSON strings may contain other Unicode line separators, at which the client's own line reader
    splits.

    Raises:
        BrokenReplyError: A line is longer than `MOST_LINE_BYTES`, or the body than
            `MOST_REPLY_BYTES`.
    """
    held = bytearray()
    total = 0
    after_return = False  # a line feed that follows ends no further line
    async for piece in pieces:
        total += len(piece)
        if total > MOST_REPLY_BYTES:
            raise BrokenReplyError(f"the server's reply is over {MOST_REPLY_BYTES >> 20} MiB")
        if not piece:
            continue
        new = piece[1:] if after_return and piece.startswith(b"\n") else piece
        after_return = piece.endswith(b"\r")
        first, *others = _LINE_ENDS.split(new)
        held += first
        for other in others:
            yield held.decode("utf-8", "replace")
            held = bytearray(other)
        if len(held) > MOST_LINE_BYTES:
            raise BrokenReplyError(
                f"the server sent a line of more than {MOST_LINE_BYTES >> 20} MiB without an end"
            )
    if held:
        yield held.decode("utf-8", "replace")
