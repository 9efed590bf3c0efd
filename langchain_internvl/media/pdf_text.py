"""Text layers and properties of PDF pages, read by pypdfium2 in a separate process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl._optional import require
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.page_ranges import Pages, parse_pages
from langchain_internvl.media.process import decoding

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source


@dataclass(frozen=True)
class PdfPageText:
    """Text layer and properties of one page.

    Attributes:
        number: Index of the page in the file, from 0.
        total: Number of pages of the whole file.
        text: The text layer in PDFium's order, lines separated by newlines, without what lies
            outside of the crop box and the paper; then the texts of `annotations`. "" if there is
            none.
        label: The page's label, such as "iv"; None: it has none.
        width: Width in points (1/72 inch), after the page's own rotation.
        height: Height in points, after the page's own rotation.
        rotation: The page's own rotation, clockwise, in degrees: 0, 90, 180 or 270.
        image_share: Share of the page that its images cover, from 0 to 1.
        damage: What of the page may be missing because the file is damaged; None: no damage was
            found.
        annotations: Texts that form fields, free text and stamps draw on the page, "" for unknown
            ones; their places are not known.
        hides_layers: Whether the page has content in a layer (optional content) that is switched
            off; `text` has the text of it, too.
        stand_in: Why the pages of the file may not show its content; see `pdf_stand_in`.
    """

    number: int
    total: int
    text: str
    label: str | None
    width: float
    height: float
    rotation: int
    image_share: float
    damage: str | None = None
    annotations: Sequence[str] = ()
    hides_layers: bool = False
    stand_in: str | None = None


def stream_texts(
    source: Source,
    policy: MediaPolicy,
    deadline: Deadline | None = None,
    *,
    pages: Pages = None,
    password: str | None = None,
) -> Generator[PdfPageText, None, None]:
    """Read the text layers of pages one after the other.

    A page that cannot be parsed is yielded without text. Close the iterator to end the process.

    Args:
        source: Where the PDF comes from.
        policy: Limits on bytes, the number of requested pages, and seconds for one page.
        deadline: Deadline of the call; None: none.
        pages: Pages in the order of reading; see `parse_pages`. None: all.
        password: Password of an encrypted file.

    Yields:
        The requested pages.

    Raises:
        MediaError: The file is no PDF, is damaged, has no pages or needs another password.
        MediaTooLargeError: The file exceeds a limit of the policy.
        RequestError: `pages` is malformed, or names pages that the file does not have.
        ImportError: The extra `documents` is not installed.
    """
    require("pypdfium2", extra="documents")
    task = {"pages": parse_pages(pages), "password": password, "max_pages": policy.max_pages}
    with decoding(
        "pdf_text_worker", task, source, "PDF", policy, deadline or Deadline(), is_stream=True
    ) as records:
        head = records.head()
        for number in head["numbers"]:
            facts: dict[str, Any] = records.head()
            yield PdfPageText(
                number=number, total=head["total"], stand_in=head["stand_in"], **facts
            )
