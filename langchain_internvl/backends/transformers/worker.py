"""One thread that owns a decode loop, for callers on any thread and in any event loop.

The thread exists only while there is work: it starts with a request and ends when the last row
has left. It is waited for at the end of the program: Python kills a thread that is still inside
torch then, and torch aborts the process for it.
"""

from __future__ import annotations

import atexit
import os
import threading
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

from langchain_internvl.backends.base import EngineStats
from langchain_internvl.backends.transformers.decoding import DecodeLoop, Failure
from langchain_internvl.backends.transformers.rows import Row
from langchain_internvl.backends.transformers.tickets import Ticket
from langchain_internvl.errors import BackendError, EngineBusyError, InternVLError


class Worker:
    """Runs requests on a decode loop.

    Args:
        load: Makes the loop, when the first request is there. Only the worker's thread calls it
            and touches what it makes. If it fails, those who wait hear of it, and the next
            request tries again.
        max_queued: Most requests that wait to begin.
    """

    def __init__(self, load: Callable[[], DecodeLoop], max_queued: int = 1024) -> None:
        self._load = load
        self._max_queued = max_queued
        self._loop: DecodeLoop | None = None
        self._lock = threading.Lock()
        self._inbox: deque[Ticket] = deque()
        self._tickets: dict[Row, Ticket] = {}
        self._thread: threading.Thread | None = None  # the last one
        self._running = False
        self._closed: BackendError | None = None
        _WORKERS.add(self)

    @property
    def stats(self) -> EngineStats:
        """What is going on."""
        loop = self._loop
        if loop is None:
            return EngineStats(queued=len(self._inbox))
        return EngineStats(len(loop.rows), len(self._inbox), loop.kv_bytes, loop.steps)

    def submit(self, ticket: Ticket) -> None:
        """Queue a request.

        Raises:
            BackendError: The worker was closed, or there can be no thread for it.
            EngineBusyError: Too many requests wait already.
        """
        with self._lock:
            if self._closed is not None:
                raise _again(self._closed)
            if len(self._inbox) >= self._max_queued:
                raise EngineBusyError(
                    f"{len(self._inbox)} requests are waiting already; try again later, or raise "
                    "max_queued of engine_options"
                )
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
            self._closed = self._closed or BackendError("the engine was closed")
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        self._loop = None

    def after_fork(self) -> None:
        """Make the copy of this worker in a forked process honest: it has lost its thread."""
        self._lock = threading.Lock()
        if self._loop is not None or self._running:
            self._closed = BackendError(
                "the model was loaded before os.fork(), and torch does not work in the forked "
                "process; start processes by 'spawn', or load the model in each of them"
            )
        self._inbox.clear()
        self._tickets.clear()
        self._thread, self._running = None, False

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._closed is not None:
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
        self._end_all()

    def _end_all(self, error: Exception | None = None) -> None:
        """Tell all who are being answered what failed; also those who wait, if none can be."""
        tickets, self._tickets = list(self._tickets.values()), {}
        if self._loop is not None:
            self._loop.clear()
        with self._lock:
            closed = self._closed
            if closed is not None or self._loop is None:
                tickets += self._inbox
                self._inbox.clear()
        for ticket in tickets:
            ticket.put(_again(closed) if error is None and closed is not None else error or _lost())

    def _work(self, loop: DecodeLoop) -> None:
        """Let one request begin, if there is room, and all others go on by a token."""
        # One at a time: those who wait for their next token wait for one prompt at most.
        newcomer = self._next_in_line(loop)
        if newcomer is not None:
            self._admit(loop, newcomer)
        self._step(loop)

    def _next_in_line(self, loop: DecodeLoop) -> Ticket | None:
        with self._lock:
            while self._inbox and self._inbox[0].cancelled:
                self._inbox.popleft()
            if not self._inbox:
                return None
            first = self._inbox[0]
        try:
            if not loop.has_room(first.request):
                return None
        except InternVLError as error:
            first.put(error)
            first.cancelled = True
            return None
        with self._lock:
            return self._inbox.popleft()

    def _admit(self, loop: DecodeLoop, ticket: Ticket) -> None:
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


def _again(error: BackendError) -> BackendError:
    """The same error for another caller: each is raised in a thread of its own."""
    return BackendError(*error.args)


def _lost() -> BackendError:
    return BackendError("the engine lost the request")


_WORKERS: WeakSet[Worker] = WeakSet()


@atexit.register
def _close_all() -> None:
    for worker in list(_WORKERS):
        worker.close()


def _after_fork() -> None:
    for worker in list(_WORKERS):
        worker.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
