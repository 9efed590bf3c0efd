"""Threads that decode and resize images: one for each core, shared by all requests.

A batch of 32 requests runs in 32 threads. If each of them decoded its own image, 32 decoded pages
(60 MB each at 300 dpi) would be in memory at once, and every thread would take fresh memory from
the system for them: faulting it in cost a sixth of the time.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from langchain_internvl.forks import renew_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from langchain_internvl.media.deadline import Deadline

_Value = TypeVar("_Value")


def available_cores() -> int:
    """Number of cores that this process may use; on Linux its affinity counts."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        return os.cpu_count() or 1


class _ImageThreads:
    """The pool; its threads start when they are needed."""

    def __init__(self) -> None:
        self.renew()
        renew_after_fork(self, _ImageThreads.renew)

    def renew(self) -> None:
        """Make a new pool: a forked process has none of the threads."""
        self.pool = ThreadPoolExecutor(available_cores(), thread_name_prefix="internvl-cut")


_THREADS = _ImageThreads()


class _Job(Generic[_Value]):
    """A call of a function that runs once, in the first thread that calls the job.

    A pool queues a job before it starts a thread for it, so that a failed start leaves the job in
    the queue: it may run in an older thread, also while the caller runs it.
    """

    def __init__(self, work: Callable[[], _Value]) -> None:
        self.future: Future[_Value] = Future()
        self._work: Callable[[], _Value] | None = work
        self._claim = threading.Lock()  # never released

    def __call__(self) -> None:
        if not self._claim.acquire(blocking=False):
            return
        work, self._work = self._work, None
        if work is None or not self.future.set_running_or_notify_cancel():
            return
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
            self.future.set_exception(error)
            del self  # the error's traceback would keep it, and its future keeps the error
        else:
            self.future.set_result(result)


def run(work: Callable[[], _Value], deadline: Deadline) -> _Value:
    """Call a function in an image thread, and wait for its result.

    Args:
        work: The function. It is short, because others wait for it: a slow decoder runs in its own
            process. It must not call `run` itself.
        deadline: Deadline of the call.

    Raises:
        RequestTimeoutError: The deadline has passed, or the call was cancelled.
        Exception: What the function raises.
    """
    job = _Job(work)
    try:
        _THREADS.pool.submit(job)
    except RuntimeError:  # the interpreter ends, or no further thread can start
        job()
    future = job.future
    del job
    stop = partial(_cancel, future)
    try:
        with deadline.stopping(stop):
            return future.result(deadline.remaining())
    except CancelledError:
        raise deadline.error() from None
    except FutureTimeoutError:
        if future.done():  # it is the function's own error, or ended in this moment
            return future.result()
        raise deadline.error() from None
    finally:
        stop()
        del future, stop  # an error's traceback would keep them, and they keep the error


def _cancel(future: Future[Any]) -> None:
    future.cancel()  # no effect on a function that runs already
