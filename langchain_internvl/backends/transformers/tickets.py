"""A caller's end of a request: deltas and errors arrive in order, for a thread or for a task."""

from __future__ import annotations

import asyncio
import threading
import traceback
from collections.abc import Awaitable
from queue import Empty, SimpleQueue
from time import monotonic

import torch

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.errors import (
    BackendError,
    EngineMemoryError,
    InternVLError,
    RequestTimeoutError,
)

Event = Delta | Exception


class Ticket:
    """What a caller and the worker know of a request. Its time begins when it is made.

    Args:
        request: The request.

    Attributes:
        request: The request.
        cancelled: Set by the caller, who wants no more of it.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.cancelled = False
        self._deadline = None if request.timeout is None else monotonic() + request.timeout

    def put(self, event: Event) -> None:
        """Hand over what happened to the request; called by the worker."""
        if isinstance(event, Exception):
            _forget_locals(event)
        self._deliver(event)

    def _deliver(self, event: Event) -> None:
        raise NotImplementedError

    def _remaining(self) -> float | None:
        """Seconds until the deadline."""
        if self._deadline is None:
            return None
        return min(max(0.0, self._deadline - monotonic()), threading.TIMEOUT_MAX)

    def _timed_out(self) -> RequestTimeoutError:
        return RequestTimeoutError(f"no reply within timeout={self.request.timeout} s")


class ThreadTicket(Ticket):
    """A ticket of a caller that blocks its thread."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._events: SimpleQueue[Event] = SimpleQueue()

    def _deliver(self, event: Event) -> None:
        self._events.put(event)

    def next(self) -> Delta:
        """Wait for the next delta.

        Raises:
            BackendError: The engine failed.
            ImportError: A package that it needs is missing.
            InternVLError: The request is faulty, or the checkpoint cannot be loaded.
            RequestTimeoutError: It took too long.
        """
        try:
            return _delta(self._events.get(timeout=self._remaining()))
        except Empty:
            raise self._timed_out() from None


class TaskTicket(Ticket):
    """A ticket of a task; made, and waited on, in a running event loop."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()

    def _deliver(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop was closed with the task unfinished
            self.cancelled = True

    async def next(self) -> Delta:
        """Wait for the next delta; raises what `ThreadTicket.next` does."""
        event: Awaitable[Event] = self._events.get()
        remaining = self._remaining()
        try:
            return _delta(await (event if remaining is None else _within(event, remaining)))
        except asyncio.TimeoutError:
            raise self._timed_out() from None


def _within(event: Awaitable[Event], seconds: float) -> Awaitable[Event]:
    # An event loop refuses to wait for centuries; a year is as good.
    return asyncio.wait_for(event, min(seconds, 365 * 24 * 3600.0))


def _delta(event: Event) -> Delta:
    if isinstance(event, Delta):
        return event
    if isinstance(event, (InternVLError, ImportError)):
        raise event
    if is_out_of_memory(event):
        raise EngineMemoryError(
            "the memory is full; lower max_tokens or max_tiles, or max_rows and max_kv_bytes of "
            f"engine_options ({event})"
        ) from event
    raise BackendError(f"the engine failed: {type(event).__name__}: {event}") from event


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is full; torch has no type for that of the CPU."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def _forget_locals(error: BaseException | None) -> None:
    """Keep what happened where, but none of the tensors that were at work there.

    Callers may keep errors for long, and a batch of keys and values is large.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__ if error.__cause__ is None else error.__cause__
