"""The pages of a blob, as pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from langchain_core.documents.base import Blob
from PIL import Image

from langchain_internvl.errors import (
    MediaError,
    MediaTooLargeError,
)
from langchain_internvl.media.encoded import formats
from langchain_internvl.media.images import load_readable, sniff_mime_type
from langchain_internvl.media.pdf import stream_pages
from langchain_internvl.media.pixels import PixelSource
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.rgb import scale_grey
from langchain_internvl.media.sources import BytesSource, PathSource, to_source

ARRAY = "application/x-npy"
"""MIME type of `numpy.save`, in which PDF loaders hand images to their `images_parser`."""


@dataclass(frozen=True)
class Page:
    """A page of a blob.

    Attributes:
        number: From 0.
        total: How many pages the blob has.
        picture: RGB and upright, or why it cannot be read.
    """

    number: int
    total: int
    picture: Image.Image | MediaError


def pages_of(blob: Blob, policy: MediaPolicy) -> Iterator[Page]:
    """The pages of an image, a TIFF, a PDF or a NumPy array.

    A page that cannot be read is given with its error, and the others follow.

    Args:
        blob: The file. What it is is told by its bytes, not by its name.
        policy: Limits on bytes, pixels and pages.

    Raises:
        MediaError: The blob as a whole cannot be read.
    """
    name = str(blob.source or "the blob")
    data = _data(blob, name, policy)
    kind = sniff_mime_type(data)
    if data[:6] == b"\x93NUMPY":
        yield Page(0, 1, _picture(lambda: load_readable(_array(data, name), policy), name))
    elif kind is None and b"%PDF" in data[:1024]:
        for page in stream_pages(BytesSource(data, name), policy):
            image = page.image
            shown = image if isinstance(image, MediaError) else Image.fromarray(image)
            yield Page(page.number, page.total, shown)
    elif kind == "image/tiff":
        yield from _tiff(data, name, policy)
    else:
        source = BytesSource(data, name)
        yield Page(0, 1, _picture(lambda: load_readable(source, policy), name))


def _data(blob: Blob, name: str, policy: MediaPolicy) -> bytes:
    if blob.data is None and blob.path is not None:
        return PathSource(Path(blob.path)).read(policy)
    try:
        return BytesSource(blob.as_bytes(), name).read(policy)
    except ValueError as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(name, f"cannot be read: {error}") from error


def _picture(load: Callable[[], Image.Image], name: str) -> Image.Image | MediaError:
    """What a page shows, or why it cannot be read."""
    try:
        return load()
    except MediaError as error:
        return error
    except Exception as error:  # noqa: BLE001 - Pillow's readers raise anything on broken files
        return MediaError(name, f"is truncated or corrupt: {error}")


def _array(data: bytes, name: str) -> PixelSource:
    """The picture of an array, as loaders of PDFs make them; objects are not unpickled."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise MediaError(name, f"is no array that can be read: {error}") from error
    if array.dtype == bool:  # scans of one bit
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = scale_grey(array)
    if array.ndim == 3 and array.shape[2] == 2:  # grey and alpha
        array = array[:, :, [0, 0, 0, 1]]
    source = to_source(array, name)
    assert isinstance(source, PixelSource)  # noqa: S101 - what arrays become
    return source


def _tiff(data: bytes, name: str, policy: MediaPolicy) -> Iterator[Page]:
    """The pages of a TIFF, up to where its chain of pages is broken."""
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        total, broken = _count(image, policy.max_pages + 1)
        if total > policy.max_pages:
            limit = f"MediaPolicy.max_pages={policy.max_pages}"
            raise MediaTooLargeError(name, f"more pages than {limit}")
        for number in range(total):
            page = f"{name}, page {number}"

            def load(number: int = number, page: str = page) -> Image.Image:
                image.seek(number)
                return load_readable(PixelSource(image, page), policy)

            yield Page(number, total + broken, _picture(load, page))
        if broken:
            error = MediaError(f"{name}, page {total}", "this page and all after it are damaged")
            yield Page(total, total + 1, error)


def _count(image: Image.Image, most: int) -> tuple[int, bool]:
    """How many pages there are, at most, and whether one more is damaged."""
    for number in range(1, most):
        try:
            image.seek(number)
        except EOFError:
            return number, False
        except Exception:  # noqa: BLE001 - Pillow's readers raise anything on broken files
            return number, True
    return most, False
