"""The server backend: one model behind an address, asked by ids or by messages."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_internvl.backends.base import Delta, EngineStats, FinishReason, Request, Usage
from langchain_internvl.backends.bridge import Bridge, LoopThread, ReplyDeadline
from langchain_internvl.backends.server.by_ids import IdDialect
from langchain_internvl.backends.server.by_messages import MessageDialect
from langchain_internvl.backends.server.client import Client, ServedModel, ServerAddress
from langchain_internvl.backends.server.dialects import (
    Dialect,
    Reader,
    finish_reason,
    read_usage,
)
from langchain_internvl.backends.server.error_mapping import named, to_error
from langchain_internvl.backends.server.events import Chunk, Done, Fault, read_line
from langchain_internvl.backends.server.kinds import ServerKind
from langchain_internvl.backends.server.redaction import Redactor, secrets_of
from langchain_internvl.backends.server.retries import Retries
from langchain_internvl.errors import (
    BackendError,
    BrokenReplyError,
    InternVLError,
    ModelNotServedError,
    PromptError,
    ServerError,
)

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer


@dataclass(frozen=True)
class ServerOptions:
    """How a server is asked.

    Attributes:
        model: The model's name there.
        retries: When a request is tried again.
        max_concurrency: Most requests at once; others wait here.
    """

    model: str
    retries: Retries = field(default_factory=Retries)
    max_concurrency: int = 64


class ServerBackend:
    """Asks a server.

    Args:
        address: The server.
        options: How it is asked.
        tokens: The checkpoint that it has and its tokenizer, for requests by ids; None: they are
            not known here.
    """

    def __init__(
        self,
        address: ServerAddress,
        options: ServerOptions,
        tokens: tuple[Checkpoint, PromptTokenizer] | None = None,
    ) -> None:
        self._address = address
        self._options = options
        self._by_ids = None if tokens is None else IdDialect(*tokens)
        self._by_messages = MessageDialect()
        self._redactor = Redactor(secrets_of(address))
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    @property
    def stats(self) -> EngineStats:
        """Requests that are being answered, and that wait here."""
        line = self._line
        return EngineStats() if line is None else line.bridge.stats

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Answer a request; see `Backend.stream`."""
        deadline = ReplyDeadline(request.timeout)
        yield from self._open().bridge.stream(partial(self._answer, request, deadline), deadline)

    async def astream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer a request in an event loop; see `stream`."""
        deadline = ReplyDeadline(request.timeout)
        answer = partial(self._answer, request, deadline)
        async with aclosing(self._open().bridge.astream(answer, deadline)) as deltas:
            async for delta in deltas:
                yield delta

    def models(self, timeout: float | None = None) -> list[ServedModel]:
        """The models that the server has.

        Args:
            timeout: Seconds until it is given up; None: as long as the client takes.

        Raises:
            InternVLError: It cannot be reached, or does not say.
        """
        line, deadline = self._open(), ReplyDeadline(timeout)
        listing = asyncio.run_coroutine_threadsafe(self._list(line.client), line.thread.loop)
        try:
            return listing.result(deadline.for_thread())
        except FutureTimeoutError:
            listing.cancel()
            raise deadline.error() from None

    def use_kind(self, kind: ServerKind) -> None:
        """Prompt by messages in the dialect of a kind of server."""
        self._by_messages = MessageDialect(kind)

    def close(self) -> None:
        """Break off what runs, and close the connections; it is safe to call twice."""
        with self._lock:
            self._closed = True
            line, self._line = self._line, None
        if line is not None:
            line.close()

    def _open(self) -> _Line:
        """The connections of this process."""
        line = self._line
        if line is not None and line.process == os.getpid():
            return line
        if line is not None:  # of the process that this one was forked from, with its lock
            self._lock, self._line = threading.Lock(), None
        with self._lock:
            if self._closed:
                raise BackendError("the connection to the server was closed")
            if self._line is None:
                self._line = line = _Line(self._address, self._options.max_concurrency)
                weakref.finalize(self, line.end).atexit = False
            return self._line

    async def _list(self, client: Client) -> list[ServedModel]:
        attempt = 0
        while True:
            try:
                return await client.models()
            except InternVLError as error:
                self._redactor.clean(error)
                wait = self._options.retries.wait_before(attempt, error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
            attempt += 1

    async def _answer(
        self, request: Request, deadline: ReplyDeadline
    ) -> AsyncGenerator[Delta, None]:
        """The reply, tried again as long as no token of it has come."""
        dialect = self._dialect(request)
        # Pictures are encoded, which takes a while.
        asked = await asyncio.get_running_loop().run_in_executor(None, dialect.body, request)
        body = {"model": self._options.model, **asked}
        request_id = uuid4().hex
        attempt = 0
        while True:
            reply = _Reply(dialect.reader(request), request_id)
            try:
                async with aclosing(self._attempt(body, reply)) as deltas:
                    async for delta in deltas:
                        yield delta
            except InternVLError as error:
                self._redactor.clean(error)
                if isinstance(error, ServerError):
                    error.request_id = request_id
                if reply.has_begun and not isinstance(error, BrokenReplyError):
                    raise _broken(error, request_id) from error
                if reply.has_begun:
                    raise
                wait = self._options.retries.wait_before(attempt, error)
                if wait is None or wait >= deadline.remaining():
                    raise
            else:
                return
            await asyncio.sleep(wait)
            attempt += 1

    def _dialect(self, request: Request) -> Dialect:
        if request.turns:
            return self._by_messages
        if self._by_ids is None:
            raise PromptError("the server's model is not known here, so it takes no token ids")
        return self._by_ids

    async def _attempt(self, body: dict[str, object], reply: _Reply) -> AsyncGenerator[Delta, None]:
        client = self._open().client
        try:
            async with client.lines(body, reply.request_id) as lines:
                async for delta in reply.read(lines):
                    yield delta
        except ModelNotServedError as error:
            names = await _served_names(client)
            if names is None:
                raise
            raise ModelNotServedError(
                f"{error}. It has: {', '.join(names)}",
                status=error.status,
                request_id=error.request_id,
            ) from error


class _Reply:
    """One attempt to read a reply.

    Args:
        reader: Reads its chunks.
        request_id: What the request is called.

    Attributes:
        has_begun: Whether anything of it has come, though it may not be shown yet.
    """

    def __init__(self, reader: Reader, request_id: str) -> None:
        self.request_id = request_id
        self.has_begun = False
        self._reader = reader

    async def read(self, lines: AsyncIterator[str]) -> AsyncGenerator[Delta, None]:
        """The deltas of a stream: complete, or an error."""
        reason: FinishReason | None = None
        usage: Usage | None = None
        async for line in lines:
            event = read_line(line)
            if isinstance(event, Fault):
                raise to_error(event, self.request_id)
            if isinstance(event, Done):
                break
            if event is None:
                continue
            self.has_begun = self.has_begun or event.says_something
            for delta in self._push(event):
                yield delta
                if delta.finish_reason is not None:
                    return  # cut here: leaving breaks the connection off, and the server stops
            usage = read_usage(event.usage) or usage
            if event.finish_reason is not None:
                reason = finish_reason(event.finish_reason)
        if reason is None:
            raise BrokenReplyError(
                "the server's reply broke off: its stream ended without a finish reason"
                f"{named(self.request_id)}"
            )
        yield self._reader.end(reason, usage)

    def _push(self, chunk: Chunk) -> list[Delta]:
        """What a chunk adds.

        Raises:
            BrokenReplyError: A part of it is not of the kind that it has to be.
        """
        try:
            return list(self._reader.push(chunk))
        except InternVLError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise BrokenReplyError(
                f"the server sent a chunk that is none, {chunk.choice}: {error!r}"
                f"{named(self.request_id)}"
            ) from error


async def _served_names(client: Client) -> list[str] | None:
    """The names of the models that the server has; None: it does not say."""
    try:
        return [one.name for one in await client.models()]
    except InternVLError:
        return None


def _broken(error: InternVLError, request_id: str) -> BrokenReplyError:
    """The error of a reply that had begun: whatever ended it, the reply is incomplete."""
    return BrokenReplyError(
        f"the server's reply broke off in the middle: {error}",
        status=getattr(error, "status", None),
        request_id=request_id,
    )


class _Line:
    """An event loop with the client that lives in it."""

    def __init__(self, address: ServerAddress, most: int) -> None:
        self.process = os.getpid()
        self.client = Client(address)  # first: it may fail, and nobody would end the thread
        self.thread = LoopThread()
        self.bridge = Bridge(self.thread.loop, most)

    def end(self) -> None:
        """Have all of it closed, without waiting; nothing in a forked process."""
        if self.process == os.getpid():
            self.thread.end(self.client.close)

    def close(self) -> None:
        """Close all of it; it is safe to call twice."""
        self.end()
        if self.process == os.getpid():
            self.thread.join()
