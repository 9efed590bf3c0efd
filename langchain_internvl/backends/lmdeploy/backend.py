"""The LMDeploy backend: its pipeline in this process, loaded on the first request."""

from __future__ import annotations

import asyncio
import os
import shutil
import threading
from collections.abc import AsyncGenerator, Generator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import aclosing
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from langchain_internvl.backends.base import Delta, EngineStats, Request
from langchain_internvl.backends.bridge import ReplyDeadline
from langchain_internvl.backends.lmdeploy.engine import Engine
from langchain_internvl.backends.lmdeploy.options import EngineOptions
from langchain_internvl.backends.lmdeploy.view import make_view
from langchain_internvl.errors import BackendError
from langchain_internvl.forks import remove_with

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer


class LMDeployBackend:
    """Runs a checkpoint by LMDeploy, in this process.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.
        options: Options of the engine.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: PromptTokenizer,
        options: EngineOptions | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._options = options or EngineOptions()
        self._lock = threading.Lock()
        self._engine: Future[Engine] | None = None
        self._closed = False
        self._process = os.getpid()

    @property
    def stats(self) -> EngineStats:
        """Numbers of running and waiting requests."""
        future = self._engine
        if future is None or not future.done() or future.exception() is not None:
            return EngineStats()
        return future.result().stats

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Answer a request; see `Backend.stream`."""
        deadline = ReplyDeadline(request.timeout)
        try:
            engine = self._load().result(deadline.for_thread())
        except FutureTimeoutError:
            raise deadline.error() from None
        yield from engine.stream(request, deadline)

    async def astream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Answer a request in an event loop without blocking its thread; see `stream`."""
        deadline = ReplyDeadline(request.timeout)
        loading = asyncio.wrap_future(self._load())
        done, _ = await asyncio.wait([loading], timeout=deadline.for_thread())
        if not done:
            raise deadline.error()
        async with aclosing(loading.result().astream(request, deadline)) as deltas:
            async for delta in deltas:
                yield delta

    def close(self) -> None:
        """End all requests and free the engine; may be called twice."""
        with self._lock:
            self._closed = True
            future = self._engine
        if future is not None and future.exception() is None:
            future.result().close()

    def _load(self) -> Future[Engine]:
        """The engine, loaded once in a separate thread, so that each caller keeps its own timeout.

        Raises:
            BackendError: The backend was closed, or inherited through `os.fork()`.
        """
        if self._process != os.getpid():  # before taking the lock, which a fork may leave locked
            raise BackendError(
                "LMDeploy does not survive os.fork(): start processes by spawn, or load the "
                "model after the fork"
            )
        with self._lock:
            if self._closed:
                raise BackendError("the engine was closed")
            failed = self._engine is not None and self._engine.done() and self._engine.exception()
            if self._engine is None or failed:
                self._engine = future = Future[Engine]()
                threading.Thread(
                    target=self._fulfil, args=(future,), name="internvl-load", daemon=True
                ).start()
            return self._engine

    def _fulfil(self, future: Future[Engine]) -> None:
        try:
            future.set_result(self._make())
        except BaseException as error:  # noqa: BLE001 - raised by the waiting callers
            future.set_exception(error)

    def _make(self) -> Engine:
        window = self._tokenizer.model_max_length or self._checkpoint.max_length
        config = self._options.config(self._checkpoint, window)
        folder = Path(mkdtemp(prefix="internvl-view-"))
        try:
            make_view(self._checkpoint, self._tokenizer, folder / "view")
            engine = Engine(folder / "view", config, self._checkpoint, self._tokenizer)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        remove_with(engine, folder)
        return engine
