"""A LangChain blob parser: the model reads images, TIFFs and PDFs into one document per page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, Literal

from langchain_core.document_loaders import BaseBlobParser
from langchain_core.documents import Document
from langchain_core.documents.base import Blob
from langchain_core.language_models import BaseChatModel

from langchain_internvl.documents.loader import InternVLLoader
from langchain_internvl.errors import RequestError
from langchain_internvl.media.policy import MediaPolicy


class InternVLImageParser(BaseBlobParser):
    """Reads scanned pages: images, TIFFs with many pages, PDFs and NumPy arrays.

    The same reader as `InternVLLoader`, for a blob: every page becomes a `Document`, with the
    same metadata. It also serves as `images_parser` of PDF loaders, which pass arrays.

    Args:
        llm: The model that reads pages: a `ChatInternVL`.
        prompt: The prompt for each page; None: the prompt of `output`.
        on_error: Handling of failures. None: a failed page is a document without text whose
            metadata has the `error`, and a blob that cannot be read at all raises. "report" (or
            "record"): both become documents; "raise": both raise; "skip": both are left out, with
            a warning in the log.
        media_policy: Limits on bytes, pixels and pages; None: those of `InternVLLoader`.
        ocr: "auto": a good text layer of a PDF is kept; "always" and "never" as in
            `InternVLLoader`. Default "always".
        **options: Other arguments of `InternVLLoader`: `pages`, `dpi`, `long_side`, `output`,
            `max_tokens`, `max_tiles`, `max_retries`, `rotation`, `deskew`, `skip_blank`,
            `concurrency`, `password`, `resume_dir`.

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
        prompt: str | None = None,
        on_error: Literal["report", "record", "raise", "skip"] | None = None,
        media_policy: MediaPolicy | None = None,
        ocr: Literal["auto", "always", "never"] = "always",
        **options: Any,
    ) -> None:
        if on_error not in {None, "report", "record", "raise", "skip"}:
            raise RequestError(
                f"on_error is 'report', 'record', 'raise', 'skip' or None, not {on_error!r}"
            )
        unknown = options.keys() & {"mode", "progress", "recursive", "page_delimiter", "sources"}
        if unknown:
            raise RequestError(f"a parser of blobs takes no {', '.join(sorted(unknown))}")
        self._settings: dict[str, Any] = {
            **options,
            "llm": llm,
            "prompt": prompt,
            "media_policy": media_policy,
            "ocr": ocr,
            "on_error": {None: "record_pages", "report": "record"}.get(on_error, on_error),
        }
        InternVLLoader([], **self._settings)  # refuses what is out of range now

    def lazy_parse(self, blob: Blob) -> Iterator[Document]:
        """Read the pages of a blob concurrently; documents come in page order.

        Args:
            blob: An image, a TIFF, a PDF or an array of `numpy.save`.

        Yields:
            A document for every page.

        Raises:
            InternVLError: A page or the blob as a whole failed; see `on_error`.
        """
        yield from InternVLLoader([blob], **self._settings).lazy_load()

    async def alazy_parse(self, blob: Blob) -> AsyncIterator[Document]:
        """Read the pages of a blob without blocking the event loop; see `lazy_parse`."""
        async for document in InternVLLoader([blob], **self._settings).alazy_load():
            yield document
