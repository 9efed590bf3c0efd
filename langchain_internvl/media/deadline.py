"""Deadline and cancellation of calls, and of the work that they are part of."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from langchain_internvl.errors import RequestTimeoutError

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy


LONGEST_WAIT = min(threading.TIMEOUT_MAX, 365 * 24 * 3600.0)
"""Longest wait in seconds: locks, queues and sockets overflow with longer ones."""


class Deadline:
    """Deadline of a call, counted from now, which can also be cancelled.

    Args:
        seconds: Seconds until the deadline; None: none.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []
        self._is_cancelled = False

    @property
    def is_over(self) -> bool:
        """Whether the deadline has passed, or the call was cancelled."""
        return self._is_cancelled or (self._end is not None and time.monotonic() >= self._end)

    def remaining(self) -> float | None:
        """Seconds until the deadline, more than 0 and at most a year; None: there is none.

        Raises:
            RequestTimeoutError: The deadline has passed.
        """
        if self.is_over:
            raise self.error()
        if self._end is None:
            return None
        return min(max(1e-3, self._end - time.monotonic()), LONGEST_WAIT)

    def error(self) -> RequestTimeoutError:
        """The error to raise once the deadline has passed."""
        if self._seconds is None:
            return RequestTimeoutError("the call was cancelled")
        return RequestTimeoutError(
            f"no reply within timeout={self._seconds:.3g} s: media took longer"
        )

    def narrow(self, policy: MediaPolicy) -> MediaPolicy:
        """The policy with a `timeout` that ends at the deadline.

        Raises:
            RequestTimeoutError: The deadline has passed.
        """
        left = self.remaining()
        if left is None or left >= policy.timeout:
            return policy
        return policy.model_copy(update={"timeout": left})

    def cancel(self) -> None:
        """Cancel the call and stop its pending work."""
        with self._lock:
            self._is_cancelled = True
            stops = list(self._stops)
        for stop in stops:
            stop()

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Context in which cancellation of the call also stops its work.

        Args:
            stop: Stops the work; called from another thread.

        Raises:
            RequestTimeoutError: The call was cancelled already.
        """
        with self._lock:
            if self._is_cancelled:
                raise self.error()
            self._stops.append(stop)
        try:
            yield
        finally:
            with self._lock:
                self._stops.remove(stop)


_WORK: ContextVar[Deadline | None] = ContextVar("internvl_work", default=None)
"""The work that the calls of a thread are part of. A thread that waits for a reply cannot be
interrupted from outside, so that its call looks here."""


@contextmanager
def part_of(work: Deadline) -> Iterator[None]:
    """Context in which calls of this thread end when a work of many calls is cancelled.

    Args:
        work: The work.
    """
    token = _WORK.set(work)
    try:
        yield
    finally:
        _WORK.reset(token)


@contextmanager
def ending_with_work(end: Callable[[RequestTimeoutError], None]) -> Iterator[None]:
    """Context of a blocking call, which ends if the work that it is part of is cancelled.

    Args:
        end: Ends the call with an error; called from another thread.

    Raises:
        RequestTimeoutError: The work was cancelled already.
    """
    work = _WORK.get()
    if work is None:
        yield
        return
    with work.stopping(lambda: end(work.error())):
        yield


def check_work() -> None:
    """Do nothing, unless the work that this thread is part of was cancelled.

    Raises:
        RequestTimeoutError: It was.
    """
    work = _WORK.get()
    if work is not None:
        work.remaining()
