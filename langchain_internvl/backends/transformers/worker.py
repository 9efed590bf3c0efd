"""One thread that owns a decode loop, for callers on any thread.

The thread exists only while there is work: it starts with a request and ends when the last row
has left. It is waited for at the end of the program: Python kills a thread that is still inside
torch then, and torch aborts the process for it.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
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
        self._events.put(event)

    def next(self) -> Delta:
        """Wait for the next delta.

        Raises:
            BackendError: The engine failed.
            InternVLError: The request is faulty.
            RequestTimeoutError: It took too long.
        """
        wait = None if self._deadline is None else max(0.0, self._deadline - monotonic())
        try:
            event = self._events.get(timeout=wait)
        except Empty:
            raise RequestTimeoutError(f"no reply within timeout={self.request.timeout} s") from None
        if isinstance(event, InternVLError):
            raise event
        if isinstance(event, Exception):
            raise BackendError(f"the engine failed: {type(event).__name__}: {event}") from event
        return event


class Worker:
    """Runs requests on a decode loop.

    Args:
        loop: The loop; only the worker's thread touches it.
    """

    def __init__(self, loop: DecodeLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._inbox: deque[Ticket] = deque()
        self._tickets: dict[Row, Ticket] = {}
        self._thread: threading.Thread | None = None
        self._running = False
        self._closed = False
        _WORKERS.add(self)

    def submit(self, request: Request) -> Ticket:
        """Queue a request.

        Raises:
            BackendError: The worker was closed.
        """
        ticket = Ticket(request)
        with self._lock:
            if self._closed:
                raise BackendError("the engine was closed")
            self._inbox.append(ticket)
            if not self._running:
                self._running = True
                self._thread = threading.Thread(target=self._run, name="internvl", daemon=True)
                self._thread.start()
        return ticket

    def close(self) -> None:
        """End all requests and wait for the thread; it is safe to call twice."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._lock:
                waiting = list(self._inbox)
                self._inbox.clear()
                if self._closed or not (waiting or self._tickets):
                    self._running = False
                    break
            for ticket in waiting:
                self._admit(ticket)
            try:
                self._step()
            except Exception as error:  # noqa: BLE001 - a fault of the loop must not hang its callers
                self._end_all(error)
        closed = BackendError("the engine was closed")
        for ticket in waiting:
            ticket.put(closed)
        self._end_all(closed)

    def _end_all(self, error: Exception) -> None:
        for row, ticket in self._tickets.items():
            self._loop.remove(row)
            ticket.put(error)
        self._tickets.clear()

    def _admit(self, ticket: Ticket) -> None:
        if ticket.cancelled:
            return
        try:
            row = self._loop.add(ticket.request)
        except Exception as error:  # noqa: BLE001 - the caller raises it
            ticket.put(error)
        else:
            self._tickets[row] = ticket

    def _step(self) -> None:
        for row, ticket in list(self._tickets.items()):
            if ticket.cancelled:
                del self._tickets[row]
                self._loop.remove(row)
        for row, event in self._loop.step():
            ticket = self._tickets[row]
            ends = isinstance(event, Failure) or event.finish_reason is not None
            if ends:
                del self._tickets[row]
            ticket.put(event.error if isinstance(event, Failure) else event)


_WORKERS: WeakSet[Worker] = WeakSet()


@atexit.register
def _close_all() -> None:
    for worker in list(_WORKERS):
        worker.close()
