"""Resolves an image reference of an agent to one image, or to pages of a PDF."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from langchain_internvl.errors import MediaError
from langchain_internvl.media.pdf import stream_pages
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.signatures import is_pdf, name_of
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.tools.images import ToolImage, open_image, parse_region
from langchain_internvl.tools.media_access import resolve_image

_PAGES = re.compile(r"#pages?=([\d,\s\u2013-]+)$", re.IGNORECASE)
"""RFC 8118: `scan.pdf#page=3`; here also `#page=2-5`, `#page=1,4` and `#page=3-`."""

MOST_PAGES = 10
"""Default number of pages of a PDF."""


@dataclass(frozen=True)
class Opening:
    """How images and PDFs are opened.

    Attributes:
        policy: Permissions and limits.
        password: Password of encrypted PDFs.
    """

    policy: MediaPolicy
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ToolPage:
    """An image, or one page of a PDF.

    Attributes:
        image: The image; or the error that the page could not be rendered with.
        number: Page number from 1; None: not a PDF.
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
        reference: As for `resolve_image`; a suffix `#page=2-5` selects pages of a PDF. Default:
            its first 10.
        opening: Permissions and limits, and the password of PDFs.
        state: The agent's state.
        region: Region of each image, see `parse_region`; None: the whole image.

    Yields:
        The images. A page that cannot be rendered carries its error. Closing the iterator ends
        the rendering early.

    Raises:
        MediaError: The file cannot be read, the region is invalid, or the file has no pages.
        RequestError: The PDF lacks a selected page.
        ImportError: The file is a PDF, and the extra `documents` is not installed.
    """
    named = _PAGES.search(reference)
    name = reference if named is None else reference[: named.start()]
    policy = opening.policy
    source = resolve_image(name, policy, state)
    held = BytesSource(source.read(policy), source.name)
    if not is_pdf(held.data):
        if named is not None:
            raise MediaError(
                name, f"is no PDF, it is {name_of(held.data)}; leave {named.group()!r} out"
            )
        yield ToolPage(open_image(held, policy, region))
        return
    part = None if region is None else parse_region(region)
    shown = named[1] if named else f"1-{MOST_PAGES}"
    for page in stream_pages(held, policy, pages=shown, password=opening.password):
        image: ToolImage | MediaError
        if isinstance(page.image, MediaError):
            image = page.image
        else:
            pixels = Image.fromarray(page.image)
            image = ToolImage(pixels, pixels.size, damage=page.damage)
            image = image if part is None else image.crop(part)
        is_cut = named is None and page.total > MOST_PAGES
        yield ToolPage(image, page.number + 1, page.total, is_cut)


def open_one_image(
    reference: str, opening: Opening, state: Any, region: str | None
) -> tuple[ToolImage, int | None]:
    """Open an image, or one page of a PDF; see `open_images`.

    Returns:
        The image, and its page number from 1; None: not a PDF.

    Raises:
        MediaError: The reference stands for several pages; and the errors of `open_images`.
    """
    with closing(open_images(reference, opening, state, region)) as images:
        first = next(images)
        if first.total > 1 and _PAGES.search(reference) is None:
            raise MediaError(
                reference,
                f"is a PDF of {first.total} pages; name one, as in '{reference}#page=1'",
            )
        if next(images, None) is not None:
            raise MediaError(reference, "names several pages; name one, as in '#page=1'")
    if isinstance(first.image, MediaError):
        raise first.image
    return first.image, first.number


def left_out(page: ToolPage, name: str) -> str:
    """Note for the agent about pages that were left out; "" if there are none."""
    if not page.is_cut:
        return ""
    first, last = MOST_PAGES + 1, min(page.total, 2 * MOST_PAGES)
    return (
        f"\n(It has {page.total} pages, of which the first {MOST_PAGES} were looked at; for the "
        f"next ones name '{name}#page={first}-{last}'.)"
    )
