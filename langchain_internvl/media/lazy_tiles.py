"""Tiles that are cut on access, identified by a key before that.

The key finds cached vision features, so a known image is not decoded again. A waiting request holds
the encoded bytes of its images instead of 12 MiB of pixels each.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageTiles:
    """One image of a prompt.

    Attributes:
        key: Hash of the image's bytes and of all options that affect its tiles.
        count: Number of tiles.
        cut: Function that makes the tiles, uint8 [count, size, size, 3]; may raise MediaError.
    """

    key: bytes
    count: int
    cut: Callable[[], NDArray[np.uint8]]

    @classmethod
    def of_array(cls, tiles: NDArray[np.uint8]) -> ImageTiles:
        """An image whose tiles are already cut, uint8 [tiles, size, size, 3]."""
        return cls(hash_pixels(tiles), len(tiles), lambda: tiles)


class TileList(Sequence["NDArray[np.uint8]"]):
    """The tiles of a prompt's images, in order; each access cuts them again.

    Args:
        images: The images.

    Attributes:
        images: The images.
    """

    def __init__(self, images: Iterable[ImageTiles]) -> None:
        self.images = tuple(images)

    def __len__(self) -> int:
        return len(self.images)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...
    @overload
    def __getitem__(self, index: slice) -> list[NDArray[np.uint8]]: ...
    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        if isinstance(index, slice):
            return [image.cut() for image in self.images[index]]
        return self.images[index].cut()


def hash_bytes(sha256: bytes, options: object) -> bytes:
    """The key of an encoded image.

    Args:
        sha256: Hash of its bytes.
        options: All options of decoding and cutting; equal options must have equal `repr`.
    """
    return hashlib.sha256(f"bytes {options!r} ".encode() + sha256).digest()


def hash_pixels(pixels: NDArray[np.uint8], options: object = None) -> bytes:
    """The key of pixels; see `hash_bytes`."""
    import numpy as np  # noqa: PLC0415 - imported at first use

    digest = hashlib.sha256(f"pixels {pixels.shape} {options!r} ".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
