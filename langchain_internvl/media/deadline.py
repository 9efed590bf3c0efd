"""When a call has to be done with its media."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from langchain_internvl.errors import RequestTimeoutError

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy


class Deadline:
    """The time that a call has, from now on; and the news that nobody waits for it any more.

    Args:
        seconds: The time; None: as long as it takes.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self._seconds = seconds
        self._end = None if seconds is None else time.monotonic() + seconds
        self._lock = threading.Lock()
        self._stops: list[Callable[[], None]] = []
        self._is_cancelled = False

    @property
    def is_over(self) -> bool:
        """Whether there is no time left, or nobody waits."""
        return self._is_cancelled or (self._end is not None and time.monotonic() >= self._end)

    def remaining(self) -> float | None:
        """Seconds that are left; None: as many as it takes.

        Raises:
            RequestTimeoutError: There are none.
        """
        if self.is_over:
            raise self.error()
        return None if self._end is None else max(1e-3, self._end - time.monotonic())

    def error(self) -> RequestTimeoutError:
        """What is raised when it is over."""
        if self._seconds is None:
            return RequestTimeoutError("the call was cancelled while media were read")
        return RequestTimeoutError(
            f"no reply within timeout={self._seconds:.3g} s: media took longer"
        )

    def narrow(self, policy: MediaPolicy) -> MediaPolicy:
        """A policy that allows no more time than is left.

        Raises:
            RequestTimeoutError: None is left.
        """
        left = self.remaining()
        if left is None or left >= policy.timeout:
            return policy
        return policy.model_copy(update={"timeout": left})

    def cancel(self) -> None:
        """Stop what is going on: nobody waits for it."""
        with self._lock:
            self._is_cancelled = True
            stops = list(self._stops)
        for stop in stops:
            stop()

    @contextmanager
    def stopping(self, stop: Callable[[], None]) -> Iterator[None]:
        """Have something stopped if the call is cancelled while it goes on.

        Raises:
            RequestTimeoutError: It was cancelled already.
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
