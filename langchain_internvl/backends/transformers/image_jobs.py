"""Decodes, cuts and encodes images in other threads, concurrently with decoding.

Encoding a page of 13 tiles takes as long as a hundred decode steps. Pillow and torch release the
GIL, so running sequences continue.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

    from langchain_internvl.media.lazy_tiles import ImageTiles

Encoder = Callable[[Any, Callable[[], bool]], torch.Tensor]
"""Function from tiles and a cancellation test to features."""


class Unwanted(Exception):  # noqa: N818 - not an error
    """The encoding was cancelled."""


class ImageJob:
    """Encoding of one image in a thread.

    Args:
        image: The image.
        encode: Encodes tiles to features; raises `Unwanted` on cancellation.
        ended: Set when the job ends.

    Attributes:
        image: The image.
    """

    def __init__(self, image: ImageTiles, encode: Encoder, ended: threading.Event) -> None:
        self.image = image
        self._encode = encode
        self._ended = ended
        self._cancelled = False
        self._features: torch.Tensor | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, pool: Executor | None = None) -> None:
        """Start the job; if no further thread can be started, the job ends with that error.

        Args:
            pool: Threads for it; None: a thread of its own.
        """
        try:
            if pool is not None:
                pool.submit(self._run).add_done_callback(self._end_without_run)
            else:
                # Not a daemon: killing a thread inside torch at exit aborts the process.
                thread = threading.Thread(target=self._run, name="internvl-image", daemon=False)
                thread.start()
                self._thread = thread
        except RuntimeError as error:
            self._error = error
            self._end()

    @property
    def has_ended(self) -> bool:
        """Whether there is a result."""
        return self._done.is_set()

    def cancel(self) -> None:
        """Cancel the job before its next batch of tiles."""
        self._cancelled = True

    def join(self) -> None:
        """Wait for the end of the started job, and of its own thread."""
        self._done.wait()
        if self._thread is not None:
            self._thread.join()

    def result(self) -> torch.Tensor:
        """The features [context tokens, hidden size] of a finished job.

        Raises:
            MediaError: The image cannot be decoded.
            RuntimeError: Torch failed.
        """
        if self._error is not None:
            raise self._error
        if self._features is None:
            raise RuntimeError("the image is not encoded yet")
        return self._features

    @torch.inference_mode()
    def _run(self) -> None:
        try:
            self._features = self._encode(self.image.cut(), lambda: self._cancelled)
        except BaseException as error:  # noqa: BLE001 - the request that waits gets it
            self._error = error
        finally:
            self._end()

    def _end_without_run(self, future: Future[None]) -> None:
        """End a job that a broken pool has dropped; else it would be waited for without end."""
        if not self._done.is_set():
            self._error = future.exception()
            self._end()

    def _end(self) -> None:
        self._done.set()
        self._ended.set()
