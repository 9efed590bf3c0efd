"""Bridge from an engine's event loop to callers on other threads and in other event loops.

An asyncio engine belongs to one loop, which runs in its own thread. Replies are generated there;
their deltas are passed to the caller through a queue, and a caller that stops iterating cancels
its reply.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from concurrent.futures import Future
from contextlib import aclosing, asynccontextmanager
from queue import Empty, SimpleQueue
from time import monotonic

from langchain_internvl.backends.base import Delta, EngineStats
from langchain_internvl.errors import BackendError, RequestTimeoutError
from langchain_internvl.media.deadline import ending_with_work

Answer = AsyncGenerator[Delta, None]
_Event = Delta | BaseException

_YEAR = 365 * 24 * 3600.0
"""Upper bound of event-loop timers, in seconds."""


class Bridge:
    """Runs replies in an event loop of another thread.

    Args:
        loop: The loop.
        most: Maximum number of concurrent replies; further ones wait.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, most: int) -> None:
        self._loop = loop
        self._most = most
        self._room: asyncio.Semaphore | None = None
        self._waiting = self._active = 0

    @property
    def stats(self) -> EngineStats:
        """Numbers of running and waiting replies."""
        return EngineStats(active_rows=self._active, queued=self._waiting)

    def stream(
        self, answer: Callable[[], Answer], deadline: ReplyDeadline
    ) -> Generator[Delta, None, None]:
        """Stream a reply to a blocking caller.

        Args:
            answer: Makes the reply; called in the loop.
            deadline: Deadline of the reply.

        Raises:
            BackendError: The loop was closed.
            RequestTimeoutError: The deadline has passed.
        """
        events: SimpleQueue[_Event] = SimpleQueue()
        task = self._start(answer, events.put)
        try:
            with ending_with_work(events.put):
                while True:
                    try:
                        delta = _delta(events.get(timeout=deadline.for_thread()))
                    except Empty:
                        raise deadline.error() from None
                    yield delta
                    if delta.finish_reason is not None:
                        return
        finally:
            task.cancel()

    async def astream(self, answer: Callable[[], Answer], deadline: ReplyDeadline) -> Answer:
        """Stream a reply to a task of another event loop; see `stream`."""
        mine = asyncio.get_running_loop()
        events: asyncio.Queue[_Event] = asyncio.Queue()

        def put(event: _Event) -> None:
            try:
                mine.call_soon_threadsafe(events.put_nowait, event)
            except RuntimeError:  # the caller's loop was closed with the task unfinished
                task.cancel()

        task = self._start(answer, put)
        # Not asyncio.wait_for: before Python 3.12 it loses a cancellation that arrives in the same
        # loop iteration as a token.
        alarm = None
        if deadline.seconds is not None:
            alarm = mine.call_later(
                min(deadline.remaining(), _YEAR),
                lambda: events.put_nowait(deadline.error()),
            )
        try:
            while True:
                delta = _delta(await events.get())
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            if alarm is not None:
                alarm.cancel()
            task.cancel()

    def _start(self, answer: Callable[[], Answer], put: Callable[[_Event], None]) -> Future[None]:
        pump = self._pump(answer, put)
        try:
            return asyncio.run_coroutine_threadsafe(pump, self._loop)
        except RuntimeError as error:
            pump.close()
            raise BackendError(f"the engine was closed: {error}") from error

    async def _pump(self, answer: Callable[[], Answer], put: Callable[[_Event], None]) -> None:
        """Pass a reply on; the last event is a delta with a finish reason, or an error."""
        ended = False
        try:
            async with self._turn(), aclosing(answer()) as deltas:
                async for delta in deltas:
                    ended = delta.finish_reason is not None
                    put(delta)
                    if ended:
                        return
        except asyncio.CancelledError:
            raise  # the caller stopped, or the loop ended, which `finally` reports
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            ended = True
            put(error)
        finally:
            if not ended:
                put(BackendError("the engine was closed, or aborted the reply"))

    @asynccontextmanager
    async def _turn(self) -> AsyncGenerator[None, None]:
        """A slot among the concurrent replies."""
        if self._room is None:
            self._room = asyncio.Semaphore(self._most)
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            self._room.release()


class ReplyDeadline:
    """Deadline of a request.

    Args:
        seconds: Seconds from now; None: no deadline.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds = seconds
        self._end = None if seconds is None else monotonic() + seconds

    def remaining(self) -> float:
        """Remaining seconds; infinity if there is no deadline."""
        return float("inf") if self._end is None else max(0.0, self._end - monotonic())

    def for_thread(self) -> float | None:
        """Remaining seconds as a `timeout` argument of `threading`; None: no deadline."""
        return None if self._end is None else min(self.remaining(), threading.TIMEOUT_MAX)

    def error(self) -> RequestTimeoutError:
        """The error to raise after the deadline."""
        return RequestTimeoutError(f"no reply within timeout={self.seconds:.3g} s")


class LoopThread:
    """An event loop that runs in its own daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="internvl-loop", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run_forever()
        finally:
            self.loop.run_until_complete(_cancel_all())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()

    def end(self, last: Callable[[], Awaitable[object]]) -> None:
        """Cancel all tasks of the loop and stop it; may be called twice and from any thread.

        Args:
            last: Coroutine function that the loop awaits last.
        """

        async def stop() -> None:
            await _cancel_all()
            try:
                await last()
            finally:
                self.loop.stop()

        stopping = stop()
        try:
            asyncio.run_coroutine_threadsafe(stopping, self.loop)
        except RuntimeError:  # the loop has stopped already
            stopping.close()

    def join(self) -> None:
        """Wait until the thread has ended."""
        if self._thread is not threading.current_thread():
            self._thread.join()


async def _cancel_all() -> None:
    """Cancel all tasks of the running loop, and wait for them."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _delta(event: _Event) -> Delta:
    if isinstance(event, Delta):
        return event
    raise event
