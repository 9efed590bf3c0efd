"""The pages of a blob, as pictures."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from langchain_core.documents.base import Blob
from PIL import Image

from langchain_internvl.errors import (
    MediaError,
    MediaTooLargeError,
    UnsupportedMediaError,
)
from langchain_internvl.media.images import formats, load_rgb, sniff_mime_type
from langchain_internvl.media.pdf import read_pages
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.sources import BytesSource, PixelSource, to_source

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
    data = _data(blob, name)
    if data[:6] == b"\x93NUMPY":
        yield Page(0, 1, _picture(lambda: load_rgb(_array(data, name), policy), name))
    elif b"%PDF" in data[:1024]:
        pictures = read_pages(BytesSource(data, name), policy)
        for number, pixels in enumerate(pictures):
            yield Page(number, len(pictures), Image.fromarray(pixels))
    elif sniff_mime_type(data) == "image/tiff":
        yield from _tiff(data, name, policy)
    else:
        source = BytesSource(data, name)
        yield Page(0, 1, _picture(lambda: load_rgb(source, policy, exif_transpose=True), name))


def _data(blob: Blob, name: str) -> bytes:
    try:
        return blob.as_bytes()
    except (OSError, ValueError) as error:
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
    """The picture of an array; objects in it are not unpickled."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise MediaError(name, f"is no array that can be read: {error}") from error
    source = to_source(array, name)
    if not isinstance(source, PixelSource):  # an .npz archive
        raise UnsupportedMediaError(name, "holds no array")
    return source


def _tiff(data: bytes, name: str, policy: MediaPolicy) -> Iterator[Page]:
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        total = int(getattr(image, "n_frames", 1))
        if total > policy.max_pages:
            limit = f"MediaPolicy.max_pages={policy.max_pages}"
            raise MediaTooLargeError(name, f"{total} pages are over {limit}")
        for number in range(total):
            page = f"{name}, page {number}"

            def load(number: int = number, page: str = page) -> Image.Image:
                image.seek(number)
                return load_rgb(PixelSource(image, page), policy)

            yield Page(number, total, _picture(load, page))
