"""Pages of a TIFF, one after the other."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.encoded import formats
from langchain_internvl.media.image_frames import find_pages
from langchain_internvl.media.images import load_readable
from langchain_internvl.media.page_ranges import Pages, parse_pages, select_pages
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.print_size import print_size

if TYPE_CHECKING:
    from collections.abc import Generator

    from langchain_internvl.media.policy import MediaPolicy


@dataclass(frozen=True)
class TiffPage:
    """One page of a TIFF.

    Attributes:
        number: Index of the page in the file, from 0; smaller copies of pages are not counted.
        total: Number of pages of the whole file, not only of those requested.
        image: The page, in mode RGB and upright; or the error of decoding it.
        inches: Width and height on paper, upright; None: unknown.
    """

    number: int
    total: int
    image: Image.Image | MediaError
    inches: tuple[float, float] | None = None


def stream_tiff_pages(
    data: bytes, name: str, policy: MediaPolicy, *, pages: Pages = None
) -> Generator[TiffPage, None, None]:
    """Decode pages of a TIFF one after the other, with one of them in memory.

    Args:
        data: The file.
        name: Name in error messages.
        policy: Limits on the number of requested pages, pixels of a page, and seconds to find the
            pages.
        pages: Pages in the order of decoding; see `parse_pages`. None: all.

    Yields:
        The requested pages, up to where the file's chain of pages is broken: a page after that
        has an error.

    Raises:
        MediaTooLargeError: The file exceeds a limit of the policy.
        RequestError: `pages` is malformed, or names pages that the file does not have.
    """
    with Image.open(io.BytesIO(data), formats=formats()) as image:
        places, is_broken = find_pages(image, name, policy)
        total = len(places) + is_broken
        numbers = select_pages(parse_pages(pages), total)
        if len(numbers) > policy.max_pages:
            limit = f"MediaPolicy.max_pages={policy.max_pages}"
            raise MediaTooLargeError(name, f"{len(numbers)} pages, more pages than {limit}")
        for number in numbers:
            page = name if total == 1 else f"{name}, page {number}"
            if number < len(places):
                shown, inches = _decoded(image, places[number], page, policy)
                yield TiffPage(number, total, shown, inches)
            else:
                error = MediaError(page, "this page and all after it are damaged")
                yield TiffPage(number, total, error)


def _decoded(
    image: Image.Image, frame: int, name: str, policy: MediaPolicy
) -> tuple[Image.Image | MediaError, tuple[float, float] | None]:
    """A frame, or its error, and its size on paper."""
    try:
        image.seek(frame)
        inches = print_size(image)
        return load_readable(PixelSource(image, name), policy), inches
    except MediaError as error:
        return error, None
    except Exception as error:  # noqa: BLE001 - Pillow's readers raise anything on broken files
        return MediaError(name, f"the image is truncated or corrupt: {error}"), None
