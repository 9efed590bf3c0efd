"""The thread that owns a decode loop; requests come from any thread and any event loop.

The thread runs only while there are requests: it starts with the first and ends with the last
sequence. Interpreter exit waits for it: Python would kill a thread inside torch, and torch would
then abort the process.
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - registers itself before `_end`
import threading
from collections import deque
from collections.abc import Callable, Iterable
from weakref import WeakSet

from langchain_internvl.backends.base import EngineStats
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.memory import free_model
from langchain_internvl.backends.transformers.next_tokens import Failure
from langchain_internvl.backends.transformers.progress import is_loading
from langchain_internvl.backends.transformers.request_handle import RequestHandle, for_another
from langchain_internvl.backends.transformers.sequences import Sequence
from langchain_internvl.errors import BackendError, EngineBusyError
from langchain_internvl.forks import renew_after_fork


class EngineThread:
    """Runs requests on a decode loop, in one thread.

    Args:
        load: Makes the loop at the first request. Only the engine thread calls it and uses the
            loop. An error of any type is raised to all waiting callers, and the next request
            calls it again.
        max_queued: Maximum number of queued requests. Default 1024.
        begin: Called first in each thread that the engine starts; an error is treated as one of
            `load`. None: nothing.
    """

    def __init__(
        self,
        load: Callable[[], DecodeLoop],
        max_queued: int = 1024,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._load = load
        self._begin = begin
        self._max_queued = max_queued
        self._loop: DecodeLoop | None = None
        self._lock = threading.Lock()
        self._inbox: deque[RequestHandle] = deque()
        self._newcomer: RequestHandle | None = None  # admitted, and not yet a sequence
        self._handles: dict[Sequence, RequestHandle] = {}
        self._clearing: list[threading.Event] = []  # set once the caches are empty
        self._thread: threading.Thread | None = None  # the latest
        self._running = False
        self._closed: BackendError | None = None
        _ENGINE_THREADS.add(self)
        renew_after_fork(self, EngineThread._after_fork)

    @property
    def stats(self) -> EngineStats:
        """Current numbers of running and queued requests, memory in bytes, and counters."""
        with self._lock:
            self._forget_those_who_left()
            active = len(self._handles) + (self._newcomer is not None)
            queued, loop = len(self._inbox), self._loop
        if loop is None:
            return EngineStats(active, queued)
        kept, prefixes = loop.images.cache, loop.prefixes
        return EngineStats(
            active,
            queued,
            loop.kv_bytes,
            loop.steps,
            feature_bytes=kept.nbytes,
            feature_hits=kept.hits,
            feature_misses=kept.misses,
            prefix_bytes=prefixes.nbytes,
            prefix_hits=prefixes.hits,
            prefix_misses=prefixes.misses,
            graph_steps=0 if loop.graphs is None else loop.graphs.replays,
        )

    def submit(self, handle: RequestHandle) -> None:
        """Queue a request.

        Raises:
            BackendError: The engine is closed, or its thread cannot start.
            EngineBusyError: The queue is full.
        """
        if _FORKED:
            raise for_another(_REFUSED)
        with self._lock:
            if self._closed is not None:
                raise for_another(self._closed)
            self._forget_those_who_left()
            if len(self._inbox) >= self._max_queued:
                raise EngineBusyError(
                    f"{len(self._inbox)} requests are waiting already; try again later, give "
                    "batches a max_concurrency, or raise max_queued of engine_options"
                )
            if not self._running:
                thread = threading.Thread(target=self._run, name="internvl", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:
                    raise BackendError(f"the engine cannot work: {error}") from error
                self._thread, self._running = thread, True
            self._inbox.append(handle)

    def clear_caches(self) -> None:
        """Empty the caches of the loop; running requests continue."""
        done = threading.Event()
        with self._lock:
            if self._loop is None:
                return
            if not self._running:  # the lock keeps a thread from starting
                self._loop.clear_caches()
                return
            self._clearing.append(done)
        done.wait()

    def close(self) -> None:
        """End all requests, wait for the thread and free the model. Idempotent."""
        with self._lock:
            self._closed = self._closed or BackendError("the engine was closed")
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.clear()  # an image may still be encoded for a request that was cancelled
            model = loop.model
            del loop
            free_model(model)

    @property
    def may_stop_loading(self) -> bool:
        """Whether loading may stop: after `close`, or at interpreter exit.

        Cancelled requests do not stop it, because later requests need the model.
        """
        if self._closed is not None:
            return True
        with self._lock:
            return bool(_ENDING) and all(one.cancelled for one in self._inbox)

    def wait_for_stopped_load(self) -> None:
        """Wait until loading, if it may stop, has stopped; at interpreter exit.

        transformers queues the reading of all tensors before it looks for an end. If the thread
        pool ended first, the queue could not be emptied, and exit would read every tensor in it.
        """
        thread = self._thread
        if thread is not None and is_loading(thread) and self.may_stop_loading:
            thread.join(_LOAD_END)

    def _after_fork(self) -> None:
        """Reset the copy in a forked process, where the thread does not exist."""
        self._lock = threading.Lock()
        if self._loop is not None or self._running:
            _FORKED.append(True)
        lost = [*self._inbox, *self._handles.values()]
        if self._newcomer is not None:
            lost.append(self._newcomer)
        self._inbox.clear()
        self._handles, self._newcomer = {}, None
        self._thread, self._running, self._clearing = None, False, []
        self._tell(lost, _REFUSED)

    def _run(self) -> None:
        begin = self._begin
        while True:
            with self._lock:
                closed = self._closed
                if closed is not None:
                    break
                self._clear_for_callers()
                self._forget_those_who_left()
                if not (self._inbox or self._handles):
                    # From here on another thread may run: this one must not use the state again.
                    self._running = False
                    return
            try:
                if begin is not None:
                    begin()
                    begin = None
                if self._loop is None:
                    self._loop = self._load()
                self._work(self._loop)
            except BaseException as error:  # noqa: BLE001 - no error may leave callers waiting
                self._end_all(error)
        self._end_all(closed)
        with self._lock:
            self._clear_for_callers()

    def _clear_for_callers(self) -> None:
        """Empty the caches if `clear_caches` was called. The caller holds the lock."""
        if self._clearing and self._loop is not None:
            self._loop.clear_caches()
        for done in self._clearing:
            done.set()
        self._clearing = []

    def _end_all(self, error: BaseException) -> None:
        """End running requests with an error; queued ones too if closed or without a loop."""
        with self._lock:
            lost = list(self._handles.values())
            self._handles = {}
            if self._closed is not None or self._loop is None:
                lost += self._inbox
                self._inbox.clear()
        if self._loop is not None:
            self._loop.clear()
        self._tell(lost, error)

    def _tell(self, handles: Iterable[RequestHandle], error: BaseException) -> None:
        for handle in handles:
            handle.put(for_another(error))

    def _work(self, loop: DecodeLoop) -> None:
        """Admit queued requests that fit, then run one step of the loop."""
        while True:
            newcomer = self._next_in_line(loop)
            if newcomer is None:
                break
            self._admit(loop, newcomer)
        self._step(loop)

    def _forget_those_who_left(self) -> None:
        """Remove cancelled and late requests from the queue. The caller holds the lock."""
        if any(handle.cancelled or handle.is_late for handle in self._inbox):
            waiting = deque[RequestHandle]()
            for handle in self._inbox:
                if handle.is_late and not handle.cancelled:
                    handle.end_late()
                elif not handle.cancelled:
                    waiting.append(handle)
            self._inbox = waiting

    def _next_in_line(self, loop: DecodeLoop) -> RequestHandle | None:
        with self._lock:
            self._forget_those_who_left()
            if not self._inbox:
                return None
            first = self._inbox[0]
        error: BaseException | None = None
        try:
            if not loop.can_admit(first.request):
                return None
        except BaseException as fault:  # noqa: BLE001 - the caller raises it
            error = fault
        with self._lock:
            if first not in self._inbox:  # removed in the meantime
                return None
            self._inbox.remove(first)
            self._newcomer = None if error else first
        if error:
            first.put(error)
        return self._newcomer

    def _admit(self, loop: DecodeLoop, handle: RequestHandle) -> None:
        try:
            sequence = loop.begin(handle.request)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            with self._lock:
                self._newcomer = None
            handle.put(error)
            return
        with self._lock:
            self._newcomer = None
            self._handles[sequence] = handle

    def _step(self, loop: DecodeLoop) -> None:
        for sequence, handle in list(self._handles.items()):
            if handle.is_late and not handle.cancelled:
                handle.end_late()
            if handle.cancelled:
                self._forget(sequence)
                loop.remove(sequence)
        for sequence, event in loop.step():
            handle = self._handles[sequence]
            if isinstance(event, Failure) or event.finish_reason is not None:
                self._forget(sequence)
            handle.put(event.error if isinstance(event, Failure) else event)

    def _forget(self, sequence: Sequence) -> None:
        with self._lock:
            del self._handles[sequence]


_ENGINE_THREADS: WeakSet[EngineThread] = WeakSet()

_FORKED: list[bool] = []
"""Not empty in a process that was forked after torch was used: no engine can run there."""

_REFUSED = BackendError(
    "a model was loaded before os.fork(), and torch does not work in the forked process; start "
    "processes by 'spawn', or load the model in each of them only"
)


_ENDING: list[bool] = []
"""Not empty once the interpreter exits."""


_LOAD_END = 10.0
"""Maximum time in seconds that interpreter exit waits for a load to notice it."""


def _end() -> None:
    _ENDING.append(True)
    for engine_thread in list(_ENGINE_THREADS):
        engine_thread.wait_for_stopped_load()


# Before `atexit`, Python joins the thread pools of `concurrent.futures`, in which transformers
# reads tensors. Functions registered here run in reverse order, hence before that join. On a Python
# without this hook, exit waits for the whole load.
getattr(threading, "_register_atexit", atexit.register)(_end)


@atexit.register
def _close_all() -> None:
    for engine_thread in list(_ENGINE_THREADS):
        engine_thread.close()
