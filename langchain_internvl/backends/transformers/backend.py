"""The transformers backend: a lazily loaded model behind the `Backend` protocol."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING

import numpy as np

from langchain_internvl.backends.base import Delta, EngineStats, Request
from langchain_internvl.backends.transformers.cpu_threads import (
    compute_alone,
    compute_with_all,
    images_at_once,
    is_small,
)
from langchain_internvl.backends.transformers.decoding import DecodeLoop
from langchain_internvl.backends.transformers.devices import execution_device
from langchain_internvl.backends.transformers.engine_thread import EngineThread
from langchain_internvl.backends.transformers.grammars import GrammarBook
from langchain_internvl.backends.transformers.limits import Limits
from langchain_internvl.backends.transformers.loading import LoadOptions, load_model
from langchain_internvl.backends.transformers.request_handle import (
    RequestHandle,
    TaskRequestHandle,
    ThreadRequestHandle,
)
from langchain_internvl.errors import BackendError
from langchain_internvl.media.deadline import ending_with_work

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint
    from langchain_internvl.prompting.tokenization import PromptTokenizer


class TransformersBackend:
    """Backend that runs a checkpoint in this process.

    The first request loads the weights.

    Args:
        checkpoint: The checkpoint.
        tokenizer: Its tokenizer.
        options: Loading options of the weights.
        limits: Limits on concurrent requests and on memory.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        tokenizer: PromptTokenizer,
        options: LoadOptions | None = None,
        limits: Limits | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = tokenizer
        self._options = options or LoadOptions()
        self._limits = limits or Limits()
        self._grammars = GrammarBook(tokenizer.token_bytes)
        self._worker = EngineThread(self._load, self._limits.max_queued, self._begin)

    @property
    def stats(self) -> EngineStats:
        """Current numbers of running and queued requests, memory in bytes, and counters."""
        return self._worker.stats

    def stream(self, request: Request) -> Generator[Delta, None, None]:
        """Stream the deltas of a request; see `Backend.stream`."""
        handle = ThreadRequestHandle(request)
        try:
            with ending_with_work(handle.put):
                if request.timeout is None or self._grammars.has(request):
                    self._grammars.compile(request)
                    self._worker.submit(handle)
                else:  # compilation cannot be interrupted, so it runs in another thread
                    self._prepare_aside(handle)
                while True:
                    delta = handle.next()
                    yield delta
                    if delta.finish_reason is not None:
                        return
        finally:
            handle.leave()

    async def astream(self, request: Request) -> AsyncGenerator[Delta, None]:
        """Like `stream`, without blocking the event loop."""
        handle = TaskRequestHandle(request)
        try:
            if self._grammars.has(request):
                self._worker.submit(handle)
            else:  # compilation may take seconds
                asyncio.get_running_loop().run_in_executor(None, self._prepare, handle)
            while True:
                delta = await handle.next()
                yield delta
                if delta.finish_reason is not None:
                    return
        finally:
            handle.leave()

    def clear_caches(self) -> None:
        """Empty the prefix cache and the vision feature cache; running requests continue."""
        self._worker.clear_caches()

    def warm_up(self) -> None:
        """Load the weights and run one request with a black tile through the model.

        Raises:
            InternVLError: The checkpoint cannot be loaded, or the forward pass fails.
        """
        size = self._checkpoint.tiles.tile_size
        tile = np.zeros((1, size, size, 3), np.uint8)
        context = [self._tokenizer.image_context_id] * self._checkpoint.tokens_per_tile
        for _ in self.stream(Request([*context, 0], [tile], max_tokens=2)):
            pass
        self.clear_caches()

    def close(self) -> None:
        """End all requests and free the model."""
        self._worker.close()

    def _prepare_aside(self, handle: RequestHandle) -> None:
        try:
            threading.Thread(target=self._prepare, args=(handle,)).start()
        except RuntimeError as error:
            raise BackendError(f"the engine cannot work: {error}") from error

    def _prepare(self, handle: RequestHandle) -> None:
        """Compile the grammar of a request and queue it, unless it was cancelled."""
        try:
            self._grammars.compile(handle.request)
            if not handle.cancelled:
                self._worker.submit(handle)
        except BaseException as error:  # noqa: BLE001 - the caller raises it
            handle.put(error)

    def _begin(self) -> None:
        if is_small(self._checkpoint.folder):
            compute_alone()
        else:
            compute_with_all()

    def _load(self) -> DecodeLoop:
        model = load_model(
            self._checkpoint,
            self._tokenizer.image_context_id,
            self._options,
            lambda: self._worker.may_stop_loading,
        )
        return DecodeLoop(
            model,
            self._tokenizer.token_bytes,
            self._limits,
            self._grammars,
            images_at_once=images_at_once(
                execution_device(model.model.vision_tower), self._checkpoint.folder
            ),
        )
