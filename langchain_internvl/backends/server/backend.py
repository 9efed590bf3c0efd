"""The server backend: one model behind an address, prompted by token ids or by messages."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from langchain_internvl.backends.base import Delta, EngineStats, Request, Usage
from langchain_internvl.backends.bridge import Bridge, LoopThread, ReplyDeadline
from langchain_internvl.backends.server.by_ids import IdDialect
from langchain_internvl.backends.server.by_messages import MessageDialect
from langchain_internvl.backends.server.client import Client, ServedModel, ServerAddress
from langchain_internvl.backends.server.dialects import Dialect, Reader, read_usage
from langchain_internvl.backends.server.error_mapping import named, to_error
from langchain_internvl.backends.server.event_stream import ServerEvent
from langchain_internvl.backends.server.events import Chunk, Done, Fault, index_of, read_event
from langchain_internvl.backends.server.finish_reasons import (
    finish_reason,
    is_known,
    warn_of_unknown,
)
from langchain_internvl.backends.server.kinds import ServerKind
from langchain_internvl.backends.server.log_masking import mask_logs
from langchain_internvl.backends.server.redaction import Redactor, secrets_of
from langchain_internvl.backends.server.retries import Retries
from langchain_internvl.errors import (
    BackendError,
    BrokenReplyError,
    InternVLError,
    ModelNotServedError,
    PromptError,
    ServerError,
    ServerUnavailableError,
)

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer


@dataclass(frozen=True)
class ServerOptions:
    """Options of the requests to a server.

    Attributes:
        model: Name of the model on the server.
        retries: Retry policy.
        max_concurrency: Maximum number of concurrent requests; further ones wait on this machine.
    """

    model: str
    retries: Retries = field(default_factory=Retries)
    max_concurrency: int = 64


class ServerBackend:
    """Sends requests to a server, and reads its streamed replies.

    Args:
        address: The server.
        options: Options of the requests.
        tokens: The served checkpoint and its tokenizer, for requests by token ids; None: not
            available on this machine.
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
        mask_logs(self._redactor)
        self._lock = threading.Lock()
        self._line: _Line | None = None
        self._closed = False

    @property
    def stats(self) -> EngineStats:
        """Numbers of running requests, and of requests that wait on this machine."""
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
        """The models of the server.

        Args:
            timeout: Seconds until the request fails; None: the client's own timeout.

        Raises:
            InternVLError: The server is unreachable, or its list is malformed.
        """
        line, deadline = self._open(), ReplyDeadline(timeout)
        listing = asyncio.run_coroutine_threadsafe(self._list(line.client), line.thread.loop)
        try:
            return listing.result(deadline.for_thread())
        except FutureTimeoutError:
            listing.cancel()
            raise deadline.error() from None

    def use_kind(self, kind: ServerKind) -> None:
        """Use the request fields of a kind of server for prompts by messages."""
        self._by_messages = MessageDialect(kind)

    def close(self) -> None:
        """Cancel running requests and close the connections; may be called twice."""
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
        if line is not None:  # inherited through os.fork(): neither it nor the lock is usable
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
        """The reply; failed attempts are retried until the first token has arrived."""
        dialect = self._dialect(request)
        # In a thread: images are encoded, which takes a while.
        asked = await asyncio.get_running_loop().run_in_executor(None, dialect.body, request)
        body = {"model": self._options.model, **asked}
        request_id = uuid4().hex
        attempt = 0
        while True:
            reply = _Reply(
                dialect.reader(request), request_id, request.max_tokens, self._redactor.quote
            )
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
            async with client.events(body, reply.request_id) as events:
                async for delta in reply.read(events):
                    yield delta
        except ModelNotServedError as error:
            names = await _served_names(client)
            if names is None:
                raise
            if not names or self._options.model in names:  # a proxy whose node restarts
                raise ServerUnavailableError(
                    f"{error}. But it {'lists this model' if names else 'lists no model yet'}",
                    status=error.status,
                    request_id=error.request_id,
                ) from error
            raise ModelNotServedError(
                f"{error}. It has: {', '.join(names)}",
                status=error.status,
                request_id=error.request_id,
            ) from error


class _Reply:
    """One attempt to read a reply.

    Args:
        reader: Reader of its chunks.
        request_id: Value of `X-Request-Id`.
        max_tokens: Maximum number of tokens of the reply.
        quote: Masks the secrets in a text, and shortens it.

    Attributes:
        has_begun: Whether any part of the reply has arrived, even if no delta was yielded yet.
    """

    def __init__(
        self, reader: Reader, request_id: str, max_tokens: int, quote: Callable[[str], str]
    ) -> None:
        self.request_id = request_id
        self.has_begun = False
        self._reader = reader
        self._max_tokens = max_tokens
        self._quote = quote

    async def read(self, sent: AsyncIterator[ServerEvent]) -> AsyncGenerator[Delta, None]:
        """The deltas of a stream, up to the finish reason.

        Some servers send no finish reason. Their replies are whole if the stream ends with
        `[DONE]`, with token counts of its own, or is a whole reply itself.

        Raises:
            BrokenReplyError: The stream ended otherwise without a finish reason, or without any
                part of a reply, or is malformed.
            InternVLError: The stream has an error object.
        """
        reason: str | None = None
        usage: Usage | None = None
        has_ended = False
        index: str | None = None  # not each server numbers its only reply 0
        async for one in sent:
            event = read_event(one, index)
            if isinstance(event, Fault):
                raise to_error(event, self.request_id)
            if isinstance(event, Done):
                has_ended = True
                break
            if index is None and event.choice:
                index = index_of(event.choice)
            self.has_begun = self.has_begun or event.says_something
            for delta in self._push(event):
                yield delta
                if delta.finish_reason is not None:
                    return  # ended here: closing the connection makes the server stop
            usage = read_usage(event.usage) or usage
            has_ended = event.may_be_last or (has_ended and not event.says_something)
            if event.finish_reason is not None:
                reason = finish_reason(event.finish_reason)
        yield self._reader.end(self._reason(reason, usage, has_ended=has_ended), usage)

    def _reason(self, reason: str | None, usage: Usage | None, *, has_ended: bool) -> str:
        """The finish reason of the reply.

        Args:
            reason: As the server sent it, in the words of this package; None: it sent none.
            usage: Token counts of the reply, if the server sent any.
            has_ended: Whether the stream ended as one that is whole.

        Raises:
            BrokenReplyError: The reply is not whole.
        """
        if reason is not None:
            if not is_known(reason):
                reason = self._quote(reason)
                warn_of_unknown(reason)
            return reason
        if not has_ended or not self.has_begun:
            raise BrokenReplyError(
                "the server's reply broke off: its stream ended without a finish reason"
                f"{named(self.request_id)}"
            )
        is_full = usage is not None and usage.completion_tokens >= self._max_tokens
        return "length" if is_full else "stop"

    def _push(self, chunk: Chunk) -> list[Delta]:
        """The deltas of a chunk.

        Raises:
            BrokenReplyError: A field of the chunk has the wrong type.
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
    """The names of the server's models; None: it returns no list."""
    try:
        return [one.name for one in await client.models()]
    except InternVLError:
        return None


def _broken(error: InternVLError, request_id: str) -> BrokenReplyError:
    """The error of a reply that ended early, with the original error in its message."""
    return BrokenReplyError(
        f"the server's reply broke off in the middle: {error}",
        status=getattr(error, "status", None),
        request_id=request_id,
    )


class _Line:
    """An event loop and the client that belongs to it."""

    def __init__(self, address: ServerAddress, most: int) -> None:
        self.process = os.getpid()
        self.client = Client(address)  # before the thread: if it fails, no thread is left running
        self.thread = LoopThread()
        self.bridge = Bridge(self.thread.loop, most)

    def end(self) -> None:
        """Close loop and client without waiting; does nothing in a forked process."""
        if self.process == os.getpid():
            self.thread.end(self.client.close)

    def close(self) -> None:
        """Close loop and client, and wait for the thread; may be called twice."""
        self.end()
        if self.process == os.getpid():
            self.thread.join()
