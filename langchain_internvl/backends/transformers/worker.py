"""One thread that owns a decode loop, for callers on any thread.

The thread exists only while there is work: it starts with a request and ends when the last row
has left. It is waited for at the end of the program: Python kills a thread that is still inside
torch then, and torch aborts the process for it.
"""

from __future__ import annotations

import atexit
import threading
import traceback
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from weakref import WeakSet

from langchain_internvl.backends.base import Delta, Request
from langchain_internvl.backends.transformers.decoding import DecodeLoop, Failure
from langchain_internvl.backends.transformers.rows import Row
from langchain_internvl.errors import BackendError, InternVLError, RequestTimeoutError


class Ticket:
    """A caller's end of a request.

    Args:
        request: The request.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.cancelled = False
        self._deadline = None if request.timeout is None else monotonic() + request.timeout
        self._events: SimpleQueue[Delta | Exception] = SimpleQueue()

    def put(self, event: Delta | Exception) -> None:
        """Hand over what happened to the request."""
        if isinstance(event, Exception):
            _forget_locals(event)
        self._events.put(event)

    def next(self) -> Delta:
        """Wait for the next delta.

        Raises:
            BackendError: The engine failed.
            ImportError: A package that it needs is missing.
            InternVLError: The request is faulty, or the checkpoint cannot be loaded.
            RequestTimeoutError: It took too long.
        """
        wait = None
        if self._deadline is not None:
            wait = min(max(0.0, self._deadline - monotonic()), threading.TIMEOUT_MAX)
        try:
            event = self._events.get(timeout=wait)
        except Empty:
            raise RequestTimeoutError(f"no reply within timeout={self.request.timeout} s") from None
        if isinstance(event, (InternVLError, ImportError)):
            raise event
        if isinstance(event, Exception):
            raise BackendError(f"the engine failed: {type(event).__name__}: {event}") from event
        return event


class Worker:
    """Runs requests on a decode loop.

    Args:
        load: Makes the loop, when the first request is there. Only the worker's thread calls it
            and touches what it makes. If it fails, those who wait hear of it, and the next
            request tries again.
    """

    def __init__(self, load: Callable[[], DecodeLoop]) -> None:
        self._load = load
        self._loop: DecodeLoop | None = None
        self._lock = threading.Lock()
        self._inbox: deque[Ticket] = deque()
        self._tickets: dict[Row, Ticket] = {}
        self._thread: threading.Thread | None = None  # the last one
        self._running = False
        self._closed = False
        _WORKERS.add(self)

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            BackendError: The worker was closed, or there can be no thread for it.
        """
        with self._lock:
            if self._closed:
                raise _closed()
            if not self._running:
                thread = threading.Thread(target=self._run, name="internvl", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise BackendError(f"the engine cannot work: {error}") from error
                self._thread, self._running = thread, True
            self._inbox.append(ticket)

    def close(self) -> None:
        """End all requests, wait for the thread and free the loop; it is safe to call twice."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._loop = None

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed:
                    break
                if not (self._inbox or self._tickets):
                    # From here on a new thread may run; this one touches nothing any more.
                    self._running = False
                    return
            try:
                if self._loop is None:
                    self._loop = self._load()
                self._work(self._loop)
            except Exception as error:  # noqa: BLE001 - no fault may hang those who wait
                self._end_all(error)
        self._end_all(closed=True)

    def _end_all(self, error: Exception | None = None, *, closed: bool = False) -> None:
        """Tell all who are being answered what failed; also those who wait, if none can be."""
        tickets, self._tickets = list(self._tickets.values()), {}
        if self._loop is not None:
            self._loop.clear()
        if closed or self._loop is None:
            with self._lock:
                tickets += self._inbox
                self._inbox.clear()
        for ticket in tickets:
            ticket.put(error or _closed())

    def _work(self, loop: DecodeLoop) -> None:
        """Let one request begin, and all others go on by a token."""
        with self._lock:
            # One at a time: those who wait for their next token wait for one prompt at most.
            newcomer = self._inbox.popleft() if self._inbox else None
        if newcomer is not None:
            self._admit(loop, newcomer)
        self._step(loop)

    def _admit(self, loop: DecodeLoop, ticket: Ticket) -> None:
        if ticket.cancelled:
            return
        try:
            row, first = loop.add(ticket.request)
        except Exception as error:  # noqa: BLE001 - the caller raises it
            ticket.put(error)
            return
        if first.finish_reason is None:
            self._tickets[row] = ticket
        ticket.put(first)

    def _step(self, loop: DecodeLoop) -> None:
        for row, ticket in list(self._tickets.items()):
            if ticket.cancelled:
                del self._tickets[row]
                loop.remove(row)
        for row, event in loop.step():
            ticket = self._tickets[row]
            if isinstance(event, Failure) or event.finish_reason is not None:
                del self._tickets[row]
            ticket.put(event.error if isinstance(event, Failure) else event)


def _forget_locals(error: BaseException | None) -> None:
    """Keep what happened where, but none of the tensors that were at work there.

    Callers may keep errors for long, and a batch of keys and values is large.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__ if error.__cause__ is None else error.__cause__


def _closed() -> BackendError:
    return BackendError("the engine was closed")


_WORKERS: WeakSet[Worker] = WeakSet()


@atexit.register
def _close_all() -> None:
    for worker in list(_WORKERS):
        worker.close()
