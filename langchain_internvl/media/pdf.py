"""Pages of a PDF as pictures, by pypdfium2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_internvl._optional import require
from langchain_internvl.errors import MediaError
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.process import decoding

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

LONG_SIDE = 1792
"""Longer side of a page in pixels: four tiles, which an A4 page fills as 3 x 4."""


def read_pages(
    source: Source, policy: MediaPolicy, deadline: Deadline | None = None
) -> tuple[NDArray[np.uint8], ...]:
    """Draw all pages of a PDF.

    Args:
        source: Where the PDF comes from.
        policy: Limits on bytes, pages, pixels and seconds.
        deadline: When it is not wanted any more.

    Returns:
        A picture of each page, uint8 [height, width, 3], RGB, with its annotations and filled
        forms, upright as the PDF says, `LONG_SIDE` pixels at its longer side.

    Raises:
        MediaError: It is no PDF, is damaged, needs a password or takes too long.
        MediaTooLargeError: It is over a limit of the policy.
        RequestTimeoutError: The deadline came first.
        ImportError: The extra `documents` is not installed.
    """
    pages = []
    for _, page in draw_pages(source, policy, deadline):
        if isinstance(page, MediaError):
            raise page
        pages.append(page)
    return tuple(pages)


def draw_pages(
    source: Source, policy: MediaPolicy, deadline: Deadline | None = None
) -> Iterator[tuple[int, NDArray[np.uint8] | MediaError]]:
    """Draw the pages of a PDF one after the other; see `read_pages`.

    Yields:
        The number of all pages, and a picture of this one or why it cannot be drawn.
    """
    require("pypdfium2", extra="documents")
    task = {"long_side": LONG_SIDE, "max_pages": policy.max_pages}
    with decoding("pdf_worker", task, source, "PDF", policy, deadline or Deadline()) as records:
        total = records.head()["pages"]
        for _ in range(total):
            try:
                yield total, records.picture()
            except MediaError as error:
                yield total, error
