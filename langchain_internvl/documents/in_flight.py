"""Concurrent processing of items: results in the order of the items, bounded memory."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, TypeVar

from langchain_core.runnables.config import run_in_executor

from langchain_internvl.media.deadline import Deadline, part_of

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_END = object()
_MOST_DONE = 16
"""Finished results that may wait behind a slow item, per item in flight."""


def in_order(
    items: Iterator[_Item],
    quick: Callable[[_Item], _Result | None],
    work: Callable[[_Item], _Result],
    concurrency: int,
) -> Generator[_Result, None, None]:
    """Apply a function to items in threads; results come in the order of the items.

    The iterator is advanced while earlier items are processed. At most `concurrency` items are
    processed at once and half as many are queued; finished results may wait behind a slow item.
    Items that are still being processed when the caller stops are cancelled; see `part_of`.

    Args:
        items: The items.
        quick: Returns the result of an item that needs no work; None: the item needs `work`.
        work: Processes an item; its exception is raised at the item's position.
        concurrency: Items that are processed at once, from 1.
    """
    pending: deque[Future[_Result]] = deque()
    wanted = Deadline()
    _WANTED[wanted] = threading.current_thread()

    def do(item: _Item) -> _Result:
        with part_of(wanted):
            return work(item)

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="internvl-pages")
    try:
        for item in items:
            result = quick(item)
            if result is None:
                pending.append(pool.submit(do, item))
            else:
                pending.append(_done(result))
            del item  # its pixels are the pool's now
            while pending and (pending[0].done() or _is_full(pending, concurrency)):
                if pending[0].done() or len(pending) >= _MOST_DONE * concurrency:
                    yield pending.popleft().result()
                else:
                    wait(_undone(pending), return_when=FIRST_COMPLETED)
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        wanted.cancel()
        del _WANTED[wanted]


async def ain_order(
    items: Iterator[_Item],
    quick: Callable[[_Item], _Result | None],
    work: Callable[[_Item], Awaitable[_Result]],
    concurrency: int,
) -> AsyncGenerator[_Result, None]:
    """Apply a coroutine function to items; see `in_order`.

    The iterator is advanced in a thread. Items that are still being processed when the caller
    stops are cancelled.
    """
    pending: deque[asyncio.Task[_Result] | Future[_Result]] = deque()
    gate = asyncio.Semaphore(concurrency)

    async def begin(item: _Item) -> _Result:
        async with gate:
            return await work(item)

    async def first() -> _Result:
        head = pending.popleft()
        return await head if isinstance(head, asyncio.Task) else head.result()

    def take() -> tuple[Any, _Result | None]:
        item: Any = next(items, _END)
        return item, None if item is _END else quick(item)

    try:
        while (taken := await run_in_executor(None, take))[0] is not _END:
            item, result = taken
            pending.append(asyncio.create_task(begin(item)) if result is None else _done(result))
            while pending and (pending[0].done() or _is_full(pending, concurrency)):
                if pending[0].done() or len(pending) >= _MOST_DONE * concurrency:
                    yield await first()
                else:
                    await asyncio.wait(_undone(pending), return_when=asyncio.FIRST_COMPLETED)
        while pending:
            yield await first()
    finally:
        tasks = [one for one in pending if isinstance(one, asyncio.Task)]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError, Exception):
                await task


def _done(result: _Result) -> Future[_Result]:
    future: Future[_Result] = Future()
    future.set_result(result)
    return future


def _undone(pending: Collection[Any]) -> list[Any]:
    return [one for one in pending if not one.done()]


def _is_full(pending: Collection[Any], concurrency: int) -> bool:
    """Whether no more items are to be taken now. One at a time stays strictly one at a time."""
    if concurrency == 1:
        return bool(pending)
    most = concurrency + max(1, concurrency // 2)
    return len(pending) >= _MOST_DONE * concurrency or len(_undone(pending)) >= most


_WANTED: dict[Deadline, threading.Thread] = {}
"""The calls of `in_order` that have not ended, and the threads that began them."""


def _cancel_all() -> None:
    """Cancel what an error has left: its traceback keeps the generators of `in_order` open.

    Python waits for the other threads of a program, which still want their results.
    """
    for wanted, thread in list(_WANTED.items()):
        is_waited_for = thread.is_alive() and not thread.daemon
        if thread is threading.current_thread() or not is_waited_for:
            wanted.cancel()


# Before `atexit`, Python joins the thread pools of `concurrent.futures`, and so would wait for the
# items that are being processed. Functions registered here run before that.
getattr(threading, "_register_atexit", atexit.register)(_cancel_all)
