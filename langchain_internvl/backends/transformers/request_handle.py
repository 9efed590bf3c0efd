"""A caller's end of a request: deltas and errors arrive in order, for a thread or for a task."""

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
"""Seconds after which the main thread looks for signals: one that arrives in the moment before it
blocks does not wake it, and on Windows none does."""

_YEAR = 365 * 24 * 3600.0
"""Longer than this no event loop waits."""


class RequestHandle:
    """What a caller and the engine thread know of a request. Its time begins when it is made.

    Args:
        request: The request.

    Attributes:
        request: The request.
        cancelled: Nobody waits for it any more; set by whoever knows first.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.cancelled = False
        self._deadline = None if request.timeout is None else monotonic() + request.timeout

    @property
    def is_late(self) -> bool:
        """Whether its time is over."""
        return self._deadline is not None and monotonic() >= self._deadline

    def put(self, event: Event) -> None:
        """Hand over what happened to the request; called by the engine thread."""
        if isinstance(event, BaseException):
            forget_locals(event)
        self._deliver(event)

    def end_late(self) -> None:
        """Tell the caller that its time is over; called by the engine thread."""
        self.cancelled = True
        self.put(self._timed_out())

    def leave(self) -> None:
        """Want no more of it; called by the caller, at the latest when it has all."""
        self.cancelled = True

    def _deliver(self, event: Event) -> None:
        raise NotImplementedError

    def _remaining(self) -> float | None:
        """Seconds until the deadline."""
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    def _timed_out(self) -> RequestTimeoutError:
        return RequestTimeoutError(f"no reply within timeout={self.request.timeout:.3g} s")


class ThreadRequestHandle(RequestHandle):
    """A handle of a caller that blocks its thread."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._events: SimpleQueue[Event] = SimpleQueue()

    def _deliver(self, event: Event) -> None:
        self._events.put(event)

    def next(self) -> Delta:
        """Wait for the next delta.

        What came before the deadline is given also after it.

        Raises:
            BackendError: The engine failed.
            ImportError: A package that it needs is missing.
            InternVLError: The request is faulty, or the checkpoint cannot be loaded.
            RequestTimeoutError: It took too long.
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
    """A handle of a task; made, and waited on, in a running event loop."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        remaining = self._remaining()
        # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that comes in the same
        # turn of the loop as a token.
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
        except RuntimeError:  # the event loop was closed with the task unfinished
            self.cancelled = True

    def leave(self) -> None:
        """Want no more of it; see `RequestHandle.leave`."""
        super().leave()
        if self._alarm is not None:
            self._alarm.cancel()

    async def next(self) -> Delta:
        """Wait for the next delta; raises what `ThreadRequestHandle.next` does."""
        return _delta(await self._events.get())


def for_another(error: BaseException) -> BaseException:
    """The same error for another caller: each is raised in a thread of its own."""
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - errors of libraries may refuse to be made again
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
