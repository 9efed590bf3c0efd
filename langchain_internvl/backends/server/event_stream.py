"""Event streams (server-sent events) as servers of chat completions send them.

Lines and events follow the WHATWG's HTML standard, sections 9.2.5 and 9.2.6: lines end with LF, CR
or CRLF, the data lines of an event are joined with line feeds, and a blank line ends the event.
Three things that such servers send are accepted in addition:

- JSON without a field name: LMDeploy's proxy sends its errors in this way, and some servers send a
  whole reply although a stream was requested;
- events without blank lines between them, if each is one line of JSON;
- a last event without a blank line after it.
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


@dataclass(frozen=True)
class ServerEvent:
    """One event.

    Attributes:
        name: Value of the field `event`; "": none.
        data: Its data lines, joined with line feeds; not empty.
    """

    name: str
    data: str


class EventParser:
    """Joins lines to events; the fields `id` and `retry`, comments and unknown fields are ignored.

    A request is never resumed or repeated by itself, which is what `id` and `retry` are for.
    """

    def __init__(self) -> None:
        self._is_first = True
        self._name = ""
        self._data: list[str] = []
        self._size = 0
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
        if self._is_bare and not self._is_whole():
            self._add(line)  # a JSON text of several lines
            return None
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        is_bare = line.lstrip().startswith(_BARE)
        before = None
        if (field == "data" or is_bare) and self._is_whole():
            before = self.end()
        if field == "data":
            self._add(value)
        elif field == "event":
            self._name = value
        elif is_bare and not self._data:
            self._is_bare = True
            self._add(line)
        return before

    def end(self) -> ServerEvent | None:
        """The event so far: at a blank line, or at the end of the stream."""
        name, data = self._name, "\n".join(self._data)
        self._name, self._data, self._size, self._is_bare = "", [], 0, False
        return ServerEvent(name, data) if data.strip() else None

    def _add(self, line: str) -> None:
        self._data.append(line)
        self._size += len(line)
        if self._size > MOST_LINE_BYTES:
            raise BrokenReplyError(
                f"the server sent an event of more than {MOST_LINE_BYTES >> 20} MiB"
            )

    def _is_whole(self) -> bool:
        """Whether the event so far is one line of JSON, which nothing can follow."""
        if len(self._data) != 1:
            return False
        text = self._data[0].strip()
        if text == DONE:
            return True
        try:
            parse_json(text)
        except ValueError:
            return False
        return True


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
