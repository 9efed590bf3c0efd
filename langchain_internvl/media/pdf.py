"""Pages of a PDF as images, rendered by pypdfium2 in a separate process."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl._optional import require
from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.page_ranges import Pages, parse_pages
from langchain_internvl.media.process import decoding

if TYPE_CHECKING:
    from collections.abc import Generator

    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

LONG_SIDE = 1792
"""Longer side of a rendered page in pixels: four tiles; an A4 page has a grid of 3 x 4 tiles."""

_MOST_FAILURES = 3
"""Number of consecutive pages that may crash the process or time out before the file fails."""


@dataclass(frozen=True)
class PdfPage:
    """One page of a PDF.

    Attributes:
        number: Index of the page in the file, from 0.
        total: Number of pages of the whole file, not only of those requested.
        image: The rendered page, uint8 [height, width, 3], RGB; or the error of its rendering.
        damage: What of the page may be missing on the image because the file is damaged; None:
            no damage was found.
        stand_in: Why the pages of the file may not show its content; see `pdf_stand_in`.
    """

    number: int
    total: int
    image: NDArray[np.uint8] | MediaError
    damage: str | None = None
    stand_in: str | None = None


def read_pages(
    source: Source,
    policy: MediaPolicy,
    deadline: Deadline | None = None,
    *,
    pages: Pages = None,
    password: str | None = None,
) -> tuple[NDArray[np.uint8], ...]:
    """Render pages of a PDF, all of them in memory at once.

    Args:
        source: Where the PDF comes from.
        policy: Limits on bytes, pages, pixels (also of all pages together) and seconds for the
            whole file.
        deadline: Deadline of the call; None: none.
        pages: Which pages; see `parse_pages`. None: all.
        password: Password of an encrypted file.

    Returns:
        An image of each page, uint8 [height, width, 3], RGB, with its annotations and filled
        forms, rotated as the PDF specifies; its longer side has `LONG_SIDE` pixels.

    Raises:
        MediaError: The file is no PDF, is damaged, needs another password or takes too long; or
            nothing is drawn on a page that has content.
        MediaTooLargeError: The file exceeds a limit of the policy.
        RequestError: `pages` is malformed, or names pages that the file does not have.
        RequestTimeoutError: The deadline has passed.
        ImportError: The extra `documents` is not installed.

    Warns:
        UserWarning: A part of a page may be missing because the file is damaged; or the pages may
            be a stand-in for the content, see `pdf_stand_in`.
    """
    require("pypdfium2", extra="documents")
    task = _task(policy, parse_pages(pages), password, LONG_SIDE)
    with decoding("pdf_worker", task, source, "PDF", policy, deadline or Deadline()) as records:
        images = []
        head = records.head()
        if head["stand_in"]:
            warnings.warn(f"{source.name}: {head['stand_in']}", stacklevel=2)
        for number in head["numbers"]:
            if damage := records.head()["damage"]:
                warnings.warn(
                    f"{source.name}: page {number}: {damage}; part of the page may be missing",
                    stacklevel=2,
                )
            images.append(records.image())
        return tuple(images)


def stream_pages(
    source: Source,
    policy: MediaPolicy,
    deadline: Deadline | None = None,
    *,
    pages: Pages = None,
    password: str | None = None,
    long_side: int = LONG_SIDE,
) -> Generator[PdfPage, None, None]:
    """Render pages of a PDF one after the other, with one or two of them in memory.

    The process renders one page ahead of the caller. A page that cannot be rendered, crashes the
    process or takes too long is yielded with its error, and the following pages are still rendered.
    Close the iterator to end the process early.

    Args:
        source: Where the PDF comes from.
        policy: Limits on bytes, the number of requested pages, pixels of a page, and seconds to
            wait for one page. `max_total_pixels` does not apply: pages are not kept.
        deadline: Deadline of the call; None: none.
        pages: Pages in the order of rendering; see `parse_pages`. None: all.
        password: Password of an encrypted file.
        long_side: Longer side of each page in pixels.

    Yields:
        The requested pages. `PdfPage.total` is known from the first one on.

    Raises:
        MediaError: The whole file cannot be read (see `read_pages`; no page is yielded), or three
            consecutive pages crashed the process or timed out.
    """
    require("pypdfium2", extra="documents")
    deadline = deadline or Deadline()
    task = _task(policy, parse_pages(pages), password, long_side)
    failures = 0
    todo: list[int] | None = None
    while todo is None or todo:
        if todo is not None:
            task["pages"] = todo  # the pages after one that ended the process
        total = 0
        try:
            with decoding(
                "pdf_worker", task, source, "PDF", policy, deadline, is_stream=True
            ) as records:
                head = records.head()
                total, todo = head["total"], list(head["numbers"])
                while todo:
                    damage: str | None = None
                    try:
                        damage = records.head()["damage"]
                        image: NDArray[np.uint8] | MediaError = records.image()
                    except MediaError as error:
                        image = error
                    failures = 0
                    yield PdfPage(todo.pop(0), total, image, damage, head["stand_in"])
        except MediaError as error:
            failures += 1
            if not todo or not total or failures >= _MOST_FAILURES:
                raise
            number = todo.pop(0)
            lost = MediaError(error.source, f"page {number}: {error.reason}")
            yield PdfPage(number, total, lost)


def _task(
    policy: MediaPolicy, pages: list[Any] | None, password: str | None, long_side: int
) -> dict[str, Any]:
    """Task of the process; see `pdf_worker.decode`."""
    if long_side < 1:
        raise MediaTooLargeError("long_side", f"is at least 1 pixel, not {long_side}")
    return {
        "long_side": long_side,
        "max_pages": policy.max_pages,
        "pages": pages,
        "password": password,
    }
