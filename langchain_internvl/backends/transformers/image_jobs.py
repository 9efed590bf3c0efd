"""Images are decoded, cut and encoded beside the decode loop, in a thread of their own.

Encoding a page of 13 tiles takes as long as a hundred decode steps. Pillow and torch release the
interpreter, so running sequences go on meanwhile; one image is encoded at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from langchain_internvl.media.lazy_tiles import ImageTiles

Encoder = Callable[[Any, Callable[[], bool]], torch.Tensor]
"""Tiles, and what says whether they are still wanted, to features."""


class Unwanted(Exception):  # noqa: N818 - it is no error
    """Nobody waits for the features any more."""


class ImageJob:
    """The features of one image in the making.

    Args:
        image: The image.
        encode: Makes features of tiles; raises `Unwanted` when told so.

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
        # Not a daemon: Python may not kill a thread inside torch at the end of a program.
        self._thread = threading.Thread(target=self._run, name="internvl-image", daemon=False)

    def start(self) -> None:
        """Begin in a thread.

        Raises:
            RuntimeError: There can be no further thread.
        """
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it came."""
        return self._done.wait(seconds)

    def cancel(self) -> None:
        """Stop before the next tiles."""
        self._cancelled = True

    def join(self) -> None:
        """Wait for the thread, which has been started."""
        self._thread.join()

    def result(self) -> torch.Tensor:
        """The features [context tokens, hidden size], when it is done.

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
