"""Per-request queue of deltas and errors, from the engine thread to a thread or asyncio task."""

from __future__ import annotations

import asyncio
import copy
import threading
from queue import Empty, SimpleQueue
from time import monotonic

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.memory import forget_locals, is_out_of_memory
from langchain_internvl.errors import (
    BackendError,
    EngineMemoryError,
    InternVLError,
    RequestTimeoutError,
)

Event = Delta | BaseException

_SIGNALS = 0.2
"""Seconds between checks for signals in the main thread: a signal just before it blocks does not
wake it, and on Windows no signal does."""

_YEAR = 365 * 24 * 3600.0
"""Maximum delay in seconds that every event loop accepts."""


class RequestHandle:
    """State of a request that its caller and the engine thread share.

    The timeout of the request is counted from the construction of the handle.

    Args:
        request: The request.

    Attributes:
        request: The request.
        cancelled: Whether the caller has given up the request; set by either side.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.cancelled = False
        self._deadline = None if request.timeout is None else monotonic() + request.timeout

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self._deadline is not None and monotonic() >= self._deadline

    def put(self, event: Event) -> None:
        """Deliver a delta or an error to the caller; called by another thread."""
        if isinstance(event, BaseException):
            forget_locals(event)
        self._deliver(event)

    def end_late(self) -> None:
        """Deliver the timeout error to the caller; called by the engine thread."""
        self.cancelled = True
        self.put(self._timed_out())

    def leave(self) -> None:
        """Give up the request; called by the caller, at the latest after the last delta."""
        self.cancelled = True

    def _deliver(self, event: Event) -> None:
        raise NotImplementedError

    def _remaining(self) -> float | None:
        """Seconds until the deadline; None: there is none."""
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    def _timed_out(self) -> RequestTimeoutError:
        return RequestTimeoutError(f"no reply within timeout={self.request.timeout:.3g} s")


class ThreadRequestHandle(RequestHandle):
    """Handle of a caller that blocks its thread."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._events: SimpleQueue[Event] = SimpleQueue()

    def _deliver(self, event: Event) -> None:
        self._events.put(event)

    def next(self) -> Delta:
        """Wait for the next delta.

        Deltas that arrived before the deadline are returned even after it.

        Raises:
            BackendError: The engine failed.
            ImportError: A required package is not installed.
            InternVLError: The request is invalid, or the checkpoint cannot be loaded.
            RequestTimeoutError: The deadline has passed.
        """
        while True:
            remaining = self._remaining()
            wait = threading.TIMEOUT_MAX if remaining is None else remaining
            if threading.current_thread() is threading.main_thread():
                wait = min(wait, _SIGNALS)
            try:
                return _delta(self._events.get(timeout=min(wait, threading.TIMEOUT_MAX)))
            except Empty:
                if remaining is not None and remaining <= wait:
                    raise self._timed_out() from None


class TaskRequestHandle(RequestHandle):
    """Handle of an asyncio task; created and awaited in a running event loop."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        remaining = self._remaining()
        # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that arrives in the
        # same iteration of the event loop as a token.
        self._alarm = (
            None
            if remaining is None
            else self._loop.call_later(
                min(remaining, _YEAR), lambda: self._events.put_nowait(self._timed_out())
            )
        )

    def _deliver(self, event: Event) -> None:
        try:
            self._loop.call_soon_threadsafe(self._events.put_nowait, event)
        except RuntimeError:  # the event loop closed before the task ended
            self.cancelled = True

    def leave(self) -> None:
        """Give up the request; see `RequestHandle.leave`."""
        super().leave()
        if self._alarm is not None:
            self._alarm.cancel()

    async def next(self) -> Delta:
        """Wait for the next delta; for errors see `ThreadRequestHandle.next`."""
        return _delta(await self._events.get())


def for_another(error: BaseException) -> BaseException:
    """A copy of an error for another caller, because each is raised in its own thread."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - errors of libraries may not be copyable
        return error
    twin.__cause__ = error.__cause__
    return twin.with_traceback(error.__traceback__)


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
