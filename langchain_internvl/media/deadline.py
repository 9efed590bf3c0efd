"""Deadline and cancellation of a call that reads media."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
            return RequestTimeoutError("the call was cancelled while media were read")
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
