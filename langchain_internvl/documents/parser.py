"""Images, TIFFs and PDFs to documents, page by page, read by the model."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Literal

from langchain_core.document_loaders import BaseBlobParser
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import HumanMessage

from langchain_internvl.documents.pages import Page, pages_of
from langchain_internvl.errors import InternVLError, RequestError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.tools.answers import answer_of
from langchain_internvl.tools.read_text import whole_text
from langchain_internvl.tools.task_prompts import READ

_LOG = logging.getLogger("langchain_internvl")


class InternVLImageParser(BaseBlobParser):
    """Reads scanned pages: images, TIFFs with many pages, PDFs and NumPy arrays.

    Every page becomes a `Document` with its text and, in `metadata`, `source`, `page` (from 0) and
    `total_pages`; where a page is not read to its end, `problem` is "length" or "repetition". It
    also serves as `images_parser` of PDF loaders, which give it arrays.

    Args:
        llm: The model that reads: a `ChatInternVL`.
        prompt: What it is asked about each page.
        on_error: What becomes of a page that fails: "report" makes a document without text whose
            metadata has the `error`, and goes on; "raise" raises it.
        media_policy: Limits on bytes, pixels and pages; None: the defaults.

    Example:
        ```python
        from langchain_core.documents.base import Blob
        from langchain_internvl import ChatInternVL, InternVLImageParser

        parser = InternVLImageParser(ChatInternVL(model="OpenGVLab/InternVL2-8B"))
        for document in parser.lazy_parse(Blob.from_path("scan.tiff")):
            print(document.metadata["page"], document.page_content)
        ```
    """

    def __init__(
        self,
        llm: BaseChatModel,
        *,
        prompt: str = READ,
        on_error: Literal["report", "raise"] = "report",
        media_policy: MediaPolicy | None = None,
    ) -> None:
        if on_error not in {"report", "raise"}:
            raise RequestError(f"on_error is 'report' or 'raise', not {on_error!r}")
        self._llm = llm
        self._prompt = prompt
        self._on_error = on_error
        self._policy = media_policy or MediaPolicy()

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """Read the pages of a blob, one after the other.

        Args:
            blob: An image, a TIFF, a PDF or an array of `numpy.save`.

        Yields:
            A document for every page.

        Raises:
            InternVLError: A page failed, and errors are to be raised.
        """
        try:
            for page in pages_of(blob, self._policy):
                yield self._read(page, blob)
        except InternVLError as error:  # the blob as a whole
            yield self._failed(error, {**blob.metadata, "source": blob.source})

    def _read(self, page: Page, blob: Blob) -> Document:
        metadata: dict[str, Any] = {
            **blob.metadata,
            "source": blob.source,
            "page": page.number,
            "total_pages": page.total,
        }
        if isinstance(page.picture, InternVLError):
            return self._failed(page.picture, metadata)
        question = {"type": "text", "text": self._prompt}
        message = HumanMessage([{"type": "image", "image": page.picture}, question])
        try:
            text, problem = whole_text(answer_of(self._llm.invoke([message])))
        except InternVLError as error:
            return self._failed(error, metadata)
        if problem is not None:
            metadata["problem"] = problem
            _LOG.warning("%s, page %d: not read to its end (%s)", blob.source, page.number, problem)
        return Document(page_content=text, metadata=metadata)

    def _failed(self, error: InternVLError, metadata: dict[str, Any]) -> Document:
        if self._on_error == "raise":
            raise error
        # Loaders that use this as images_parser take the text and nothing else.
        _LOG.warning("not read: %s", error)
        return Document(page_content="", metadata={**metadata, "error": str(error)})
