"""Resolves an image reference of an agent to one image, or to pages of a PDF or TIFF."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from langchain_internvl.errors import MediaError
from langchain_internvl.media.images import sniff_mime_type
from langchain_internvl.media.pdf import stream_pages
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.signatures import is_pdf, name_of
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.tiff_pages import stream_tiff_pages
from langchain_internvl.tools.images import ToolImage, open_image, parse_region
from langchain_internvl.tools.media_access import resolve_image

_PAGES = re.compile(r"#pages?=([\d,\s\u2013-]+)$", re.IGNORECASE)
"""RFC 8118: `scan.pdf#page=3`; here also `#page=2-5`, `#page=1,4` and `#page=3-`."""

MOST_PAGES = 10
"""Default number of pages of a PDF or TIFF."""


@dataclass(frozen=True)
class Opening:
    """How images and documents are opened.

    Attributes:
        policy: Permissions and limits.
        password: Password of encrypted PDFs.
        most_pages: Most pages of a document of which no pages are named; None: all.
    """

    policy: MediaPolicy
    password: str | None = field(default=None, repr=False)
    most_pages: int | None = MOST_PAGES


@dataclass(frozen=True)
class ToolPage:
    """An image, or one page of a PDF or of a TIFF with several.

    Attributes:
        image: The image; or the error that the page could not be rendered with.
        number: Page number from 1; None: an image.
        total: Number of pages of the whole file.
        is_cut: Whether no pages were named and the file has more than the default number.
    """

    image: ToolImage | MediaError
    number: int | None = None
    total: int = 1
    is_cut: bool = False


def open_images(
    reference: str, opening: Opening, state: Any, region: str | None
) -> Generator[ToolPage]:
    """Open an image, or the pages of a PDF one after the other.

    Args:
        reference: As for `resolve_image`; a suffix `#page=2-5` selects pages of a PDF or a TIFF.
            Default: the first `opening.most_pages`.
        opening: Permissions and limits, and the password of PDFs.
        state: The agent's state.
        region: Region of each image, see `parse_region`; None: the whole image.

    Yields:
        The images. A page that cannot be rendered carries its error. Closing the iterator ends
        the rendering early.

    Raises:
        MediaError: The file cannot be read, the region is invalid, or the file has no pages.
        RequestError: The document lacks a selected page.
        ImportError: The file is a PDF, and the extra `documents` is not installed.
    """
    named = _PAGES.search(reference)
    name = reference if named is None else reference[: named.start()]
    policy = opening.policy
    source = resolve_image(name, policy, state)
    held = BytesSource(source.read(policy), source.name)
    numbers = named[1] if named else _first(opening.most_pages)
    if is_pdf(held.data):
        pages = _of_pdf(held, opening, numbers)
    elif sniff_mime_type(held.data) == "image/tiff":
        pages = _of_tiff(held, opening, numbers)
    elif named is not None:
        raise MediaError(
            name, f"is no PDF, it is {name_of(held.data)}; leave {named.group()!r} out"
        )
    else:
        yield ToolPage(open_image(held, policy, region))
        return
    part = None if region is None else parse_region(region)
    most = opening.most_pages
    with closing(pages):
        for page in pages:
            image = page.image
            if part is not None and isinstance(image, ToolImage):
                image = image.crop(part)
            is_cut = named is None and most is not None and page.total > most
            yield replace(page, image=image, is_cut=is_cut)


def _first(most: int | None) -> str | None:
    return None if most is None else f"1-{most}"


def _of_pdf(held: BytesSource, opening: Opening, pages: str | None) -> Generator[ToolPage]:
    """Pages of a PDF, whole."""
    rendered = stream_pages(held, opening.policy, pages=pages, password=opening.password)
    for page in rendered:
        shown: ToolImage | MediaError
        if isinstance(page.image, MediaError):
            shown = page.image
        else:
            pixels = Image.fromarray(page.image)
            shown = ToolImage(pixels, pixels.size, damage=page.damage, stand_in=page.stand_in)
        yield ToolPage(shown, page.number + 1, page.total)


def _of_tiff(held: BytesSource, opening: Opening, pages: str | None) -> Generator[ToolPage]:
    """Pages of a TIFF, whole; the only page of one is an image."""
    for page in stream_tiff_pages(held.data, held.name, opening.policy, pages=pages):
        is_alone = page.total == 1
        if is_alone and isinstance(page.image, MediaError):
            raise page.image
        shown = page.image
        image = shown if isinstance(shown, MediaError) else ToolImage(shown, shown.size)
        yield ToolPage(image, None if is_alone else page.number + 1, page.total)


def open_one_image(
    reference: str, opening: Opening, state: Any, region: str | None
) -> tuple[ToolImage, int | None]:
    """Open an image, or one page of a document; see `open_images`.

    Returns:
        The image, and its page number from 1; None: an image.

    Raises:
        MediaError: The reference stands for several pages; and the errors of `open_images`.
    """
    with closing(open_images(reference, opening, state, region)) as images:
        first = next(images)
        takes_first = opening.most_pages == 1
        if first.total > 1 and not takes_first and _PAGES.search(reference) is None:
            raise MediaError(
                reference,
                f"is a document of {first.total} pages; name one, as in '{reference}#page=1'",
            )
        if next(images, None) is not None:
            raise MediaError(reference, "names several pages; name one, as in '#page=1'")
    if isinstance(first.image, MediaError):
        raise first.image
    return first.image, first.number


def left_out(page: ToolPage, name: str) -> str:
    """Note for the agent about pages that were left out; "" if there are none.

    Args:
        page: The last page that was looked at.
        name: Name of the document.
    """
    if not page.is_cut or page.number is None:
        return ""
    first, last = page.number + 1, min(page.total, 2 * page.number)
    return (
        f"\n(It has {page.total} pages, of which the first {page.number} were looked at; for the "
        f"next ones name '{name}#page={first}-{last}'.)"
    )
