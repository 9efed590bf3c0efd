"""Decodes, cuts and encodes images in a separate thread, concurrently with decoding.

Encoding a page of 13 tiles takes as long as a hundred decode steps. Pillow and torch release the
GIL, so running sequences continue; one image is encoded at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
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

    Attributes:
        image: The image.
    """

    def __init__(self, image: ImageTiles, encode: Encoder) -> None:
        self.image = image
        self._encode = encode
        self._cancelled = False
        self._features: torch.Tensor | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        # Not a daemon: killing a thread inside torch at exit aborts the process.
        self._thread = threading.Thread(target=self._run, name="internvl-image", daemon=False)

    def start(self) -> None:
        """Start the thread.

        Raises:
            RuntimeError: No further thread can be started.
        """
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end, up to a number of seconds; returns whether the job has ended."""
        return self._done.wait(seconds)

    def cancel(self) -> None:
        """Cancel the job before its next batch of tiles."""
        self._cancelled = True

    def join(self) -> None:
        """Wait for the started thread."""
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
            self._done.set()
