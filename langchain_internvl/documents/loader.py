"""Scanned documents as LangChain documents, read by the model: a document loader."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Literal, get_args

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel

from langchain_internvl._optional import require
from langchain_internvl.documents.jobs import (
    ARCHIVES,
    FileStart,
    OnError,
    Pipeline,
    Result,
    is_a,
    settle,
)
from langchain_internvl.documents.journal import Journal, fingerprint_of
from langchain_internvl.documents.model_identity import identify
from langchain_internvl.documents.pages import OcrMode, PageOptions
from langchain_internvl.documents.reading import ReadOptions
from langchain_internvl.documents.sources import File, SourceLike, as_list, find_files
from langchain_internvl.errors import MediaError, RequestError
from langchain_internvl.media.page_ranges import Pages, parse_pages
from langchain_internvl.media.policy import MediaPolicy

PAGE_DELIMITER = "\n\f"
"""Separator of the pages of a file in mode "single", as in other PDF loaders of LangChain."""

_VERSION = 3
"""Version of the reading algorithm: incremented when the same settings give another text."""


class InternVLLoader(BaseLoader):
    r"""Loads scanned documents: images, TIFFs with many pages, and PDFs, page by page.

    The model reads several pages concurrently; documents come in page order. A PDF's own text
    layer is kept where it is good. Memory does not grow with the number of pages.

    Metadata of a page: `source`, `page` (from 0), `total_pages`, `page_label`, `page_id` (SHA-256
    of the file and the page number), `width` and `height` of the image in pixels (of a kept text
    layer in points), `ocr` ("model", "text_layer", "fallback": the text layer because the model
    failed, or "blank"), `text_layer` (the test that the text layer failed), `rotation` (degrees
    clockwise by which it was turned), `attempts`, `finish_reason`, `token_probability` (mean, 0 to
    1), `model`; if they apply, `skew`, `parts`, `elements`, `problem` ("length", "repetition" or
    "content_filter"), `damage` (what of a PDF's page may be missing because the file is damaged),
    `frames` (the number of images in a GIF, WebP, PNG, AVIF or MPO file with several, of which the
    page is the first), `stand_in` (why the pages of a PDF may not show its content: a dynamic XFA
    form, a portfolio) and `error`. A page that has content of which nothing can be drawn is an
    error (see `on_error`), not "blank".

    Args:
        sources: A path, folder, glob, http(s) URL, the bytes of a file, a binary file object or a
            `Blob`, or several.
        llm: The model that reads pages: a `ChatInternVL`.
        mode: "page": a document for each page; "single": one for each file.
        pages: Which pages of every file: indices from 0, a range, or numbers from 1 as text,
            "1-3, 7, 10-". None: all.
        dpi: Resolution for pages of PDFs; a page that then needs more tiles than `max_tiles` is
            read in parts. None: by `long_side`.
        long_side: Longer side of an A4 page in pixels; larger images are shrunk to it.
        ocr: "auto": a good text layer is kept; "always": every page is read by the model;
            "never": text layers only; the text of images is empty.
        output: "text", or "markdown" with tables in HTML.
        prompt: The prompt for each page; None: the prompt of `output`.
        max_tokens: Most tokens of the first attempt at a page; None: the model's own.
        max_tiles: Most tiles of one request, the thumbnail not counted; None: the model's own
            setting, or 12.
        max_retries: Most replies for a page in addition to the first; then the best reading so far
            is taken, with its `problem`. None: no limit: a page on which every remedy fails takes
            9 to 60 replies.
        rotation: "auto": other orientations are tried where a page reads badly; "always": the
            model reports the orientation first; "never": pages are read as they are.
        deskew: Rotate pages whose lines are skewed by up to 8 degrees, so that lines are level.
        skip_blank: Blank pages give empty text, without a request to the model.
        concurrency: Most pages in flight at once.
        on_error: Handling of a page or file that fails: "raise"; "skip", with a warning in the
            log; "record": a document without text whose metadata has the `error`;
            "record_pages": the same for pages, while a file that cannot be read at all raises.
            A model that cannot be used always raises.
        progress: Show a progress bar (tqdm).
        password: Password of encrypted PDFs.
        resume_dir: Folder for a journal of read pages: after a crash, a restart with the same
            settings reads only the remaining pages. None: no journal.
        recursive: Include subfolders.
        page_delimiter: Separator of pages in mode "single".
        media_policy: Limits on bytes, pixels, pages and addresses; None: as for messages, with
            2 GiB and a million pages for a file.

    Raises:
        RequestError: A setting is out of range.

    Example:
        ```python
        from langchain_internvl import ChatInternVL, InternVLLoader

        llm = ChatInternVL(model="OpenGVLab/InternVL2-8B", temperature=0)
        for page in InternVLLoader("scans/", llm=llm, output="markdown").lazy_load():
            print(page.metadata["source"], page.metadata["page"], page.page_content)
        ```
    """

    def __init__(
        self,
        sources: SourceLike | Iterable[SourceLike],
        *,
        llm: BaseChatModel,
        mode: Literal["page", "single"] = "page",
        pages: Pages = None,
        dpi: float | None = None,
        long_side: int = 1792,
        ocr: OcrMode = "auto",
        output: Literal["text", "markdown"] = "text",
        prompt: str | None = None,
        max_tokens: int | None = None,
        max_tiles: int | None = None,
        max_retries: int | None = 16,
        rotation: Literal["auto", "always", "never"] = "auto",
        deskew: bool = True,
        skip_blank: bool = True,
        concurrency: int = 8,
        on_error: OnError = "raise",
        progress: bool = False,
        password: str | None = None,
        resume_dir: str | os.PathLike[str] | None = None,
        recursive: bool = True,
        page_delimiter: str = PAGE_DELIMITER,
        media_policy: MediaPolicy | None = None,
    ) -> None:
        if mode not in ("page", "single"):
            raise RequestError(f"mode is 'page' or 'single', not {mode!r}")
        if on_error not in get_args(OnError):
            raise RequestError(
                f"on_error is one of {', '.join(get_args(OnError))}, not {on_error!r}"
            )
        if not is_a(str, page_delimiter):
            raise RequestError(f"page_delimiter is text, not {type(page_delimiter).__name__}")
        self._sources = as_list(sources)
        self._mode = mode
        self._on_error = on_error
        self._progress = progress
        self._resume_dir = resume_dir
        self._recursive = recursive
        self._warned: set[Path] = set()
        self._delimiter = page_delimiter
        self._llm = llm
        self._read = ReadOptions(
            prompt=prompt,
            output=output,
            max_tokens=max_tokens,
            rotation=rotation,
            deskew=deskew,
            skip_blank=skip_blank,
            max_tiles=max_tiles,
            max_retries=max_retries,
        ).for_model(llm)
        # An iterator of pages would be empty for the second file.
        self._pages = PageOptions(parse_pages(pages), password, ocr, dpi, long_side)
        self._policy = media_policy or ARCHIVES
        self._concurrency = concurrency
        self._pipeline(None)  # refuses what is out of range now
        if progress:
            require("tqdm", extra="documents")

    def lazy_load(self) -> Iterator[Document]:
        """Load documents as they are read.

        Raises:
            InternVLError: A page or file failed, and `on_error` is "raise"; or the model cannot be
                used.
        """
        with closing(self.results()) as results:
            yield from self._documents(results)

    async def alazy_load(self) -> AsyncIterator[Document]:
        """Load documents as they are read, without blocking the event loop."""
        grouped = _Grouped(self._mode, self._delimiter, self._on_error)
        with self._journal() as journal, self._bar() as watch:
            results = self._pipeline(journal).arun(self.files())
            async with aclosing(results):
                async for result in results:
                    watch(result)
                    for document in grouped.add(result):
                        yield document
        for document in grouped.end():
            yield document

    def files(self) -> Iterator[File | MediaError]:
        """The files that the sources name; a `MediaError` for a source that names none."""
        return find_files(
            self._sources, recursive=self._recursive, warned=self._warned, skip=self._skips
        )

    def _skips(self, path: Path) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a file that a folder or a glob gives is left out."""
        return False

    def results(self) -> Generator[FileStart | Result, None, None]:
        """Results as they are made, failures included: for programs that report progress."""
        with (
            self._journal() as journal,
            self._bar() as watch,
            closing(self._pipeline(journal).run(self.files())) as results,
        ):
            for result in results:
                watch(result)
                yield result

    def _documents(self, results: Iterable[FileStart | Result]) -> Iterator[Document]:
        grouped = _Grouped(self._mode, self._delimiter, self._on_error)
        for result in results:
            yield from grouped.add(result)
        yield from grouped.end()

    def _pipeline(self, journal: Journal | None) -> Pipeline:
        return Pipeline(
            self._llm,
            read=self._read,
            pages=self._pages,
            policy=self._policy,
            concurrency=self._concurrency,
            journal=journal,
        )

    @contextmanager
    def _journal(self) -> Iterator[Journal | None]:
        if self._resume_dir is None:
            yield None
            return
        settings = {
            "version": _VERSION,
            "model": identify(self._llm),
            "read": {**asdict(self._read), "prompt": self._read.question},
            "pages": [self._pages.ocr, self._pages.dpi, self._pages.long_side],
        }
        journal = Journal(self._resume_dir, fingerprint_of(settings))
        try:
            yield journal
        finally:
            journal.close()

    @contextmanager
    def _bar(self) -> Iterator[Callable[[FileStart | Result], None]]:
        if not self._progress:
            yield lambda _: None
            return
        tqdm = require("tqdm", extra="documents").tqdm
        with tqdm(total=0, unit="page") as bar:

            def watch(result: FileStart | Result) -> None:
                if isinstance(result, FileStart):
                    bar.total += result.pages or 0
                    bar.refresh()
                else:
                    bar.update()

            yield watch


class _Grouped:
    """Turns results into documents: one for each page, or one for each file."""

    def __init__(self, mode: str, delimiter: str, on_error: OnError) -> None:
        self._mode = mode
        self._delimiter = delimiter
        self._on_error: OnError = on_error
        self._file: File | None = None
        self._pages: list[Document] = []
        self._error: str | None = None

    def add(self, result: FileStart | Result) -> Iterator[Document]:
        """Documents that are complete now."""
        if isinstance(result, FileStart) or result.file is not self._file:
            yield from self.end()
            self._file = result.file
        document = settle(result, self._on_error)
        if document is None:
            return
        if self._mode == "page" or ("page_id" not in document.metadata and not self._pages):
            yield document
        elif "page_id" not in document.metadata:  # the rest of the file failed
            self._error = document.metadata["error"]
        else:
            self._pages.append(document)

    def end(self) -> Iterator[Document]:
        """The document of the last file, in mode "single"."""
        pages, self._pages = self._pages, []
        failed, self._error = self._error, None
        if not pages:
            return
        first = pages[0].metadata
        document_id = first["page_id"].rpartition("-")[0]
        own = {"page", "page_label", "page_id", "width", "height", "ocr", "rotation", "attempts",
               "finish_reason", "token_probability", "skew", "parts", "problem", "error",
               "elements", "text_layer", "damage", "frames"}  # fmt: skip
        shared = {name: value for name, value in first.items() if name not in own}
        per_page = [
            {name: value for name, value in page.metadata.items() if name in own} for page in pages
        ]
        errors = [f"page {one['page']}: {one['error']}" for one in per_page if "error" in one]
        errors += [] if failed is None else [failed]
        yield Document(
            id=document_id,
            page_content=self._delimiter.join(page.page_content for page in pages),
            metadata={
                **shared,
                "document_id": document_id,
                "pages": per_page,
                **({"error": "; ".join(errors)} if errors else {}),
            },
        )
