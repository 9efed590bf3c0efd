"""Reads the pages of many files as one stream of jobs; each page becomes a LangChain document."""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from numbers import Integral, Real
from typing import Any, Literal, TypeAlias

from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables.config import run_in_executor
from PIL import Image

from langchain_internvl.documents.elements import Element
from langchain_internvl.documents.file_version import FileVersion
from langchain_internvl.documents.in_flight import ain_order, in_order
from langchain_internvl.documents.journal import Journal
from langchain_internvl.documents.page_reader import Reader
from langchain_internvl.documents.pages import Page, PageOptions, pages_of
from langchain_internvl.documents.reading import PageText, ReadOptions
from langchain_internvl.documents.sources import File
from langchain_internvl.errors import (
    InternVLError,
    MediaError,
    RequestError,
    RunGuard,
    check_chat_model,
    check_concurrency,
)
from langchain_internvl.media.page_ranges import parse_pages, select_pages
from langchain_internvl.media.policy import MediaPolicy

_LOG = logging.getLogger("langchain_internvl")

OnError = Literal["raise", "skip", "record", "record_pages"]
"""Handling of failures. "raise": the first one is raised; "skip": they are logged; "record": each
becomes a document without text; "record_pages": a failed page becomes a document, a failed file is
raised."""

ARCHIVES = MediaPolicy(max_pages=1_000_000, max_bytes=2 << 30)
"""Limits for files named by a program: pages are streamed, so a file may have many."""


@dataclass(frozen=True)
class FileStart:
    """A file was opened.

    Attributes:
        file: The file.
        pages: How many of its pages are requested; None: not known yet.
    """

    file: File
    pages: int | None


@dataclass(frozen=True)
class Result:
    """A page, or a file as a whole, that was read or failed.

    Attributes:
        file: The file.
        document: The page; None: it failed.
        error: Why it failed; None: it was read.
        metadata: Metadata of a failure, such as the page number of a failed page.
        is_resumed: Whether the page comes from the journal.
    """

    file: File
    document: Document | None = None
    error: InternVLError | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    is_resumed: bool = False


@dataclass(frozen=True)
class _PageJob:
    """A page to read."""

    file: File
    page: Page
    digest: str


_ONE_OF = (
    "has {} images (an animation, or several pictures), of which the first is its page; to read "
    "the others, save each as an image of its own, or all as a TIFF"
)

_Job: TypeAlias = "FileStart | Result | _PageJob"


def page_id(digest: str, number: int) -> str:
    """The identity of a page, independent of the path of its file.

    Args:
        digest: SHA-256 of the document's bytes, in hexadecimal digits.
        number: Index of the page, from 0.

    Returns:
        "<digest>-<number>".
    """
    return f"{digest}-{number}"


def is_a(kind: type, value: Any) -> bool:
    """Whether a value that a program gave is of a type; NumPy's numbers are numbers too."""
    return isinstance(value, kind)


class Pipeline:
    """Reads the pages of files concurrently and yields the results in order.

    Args:
        llm: The model that reads pages: a `ChatInternVL`.
        read: How pages are read.
        pages: Which pages are read, and how they are rendered.
        policy: Limits on files.
        concurrency: Most pages in flight at once.
        journal: Stores the pages that were read; None: nothing is stored.
    """

    def __init__(
        self,
        llm: BaseChatModel,
        *,
        read: ReadOptions,
        pages: PageOptions,
        policy: MediaPolicy,
        concurrency: int,
        journal: Journal | None = None,
    ) -> None:
        check_chat_model(llm)
        check_concurrency(concurrency)
        if pages.ocr not in {"auto", "always", "never"}:
            raise RequestError(f"ocr is 'auto', 'always' or 'never', not {pages.ocr!r}")
        if pages.dpi is not None and not (is_a(Real, pages.dpi) and 0 < pages.dpi < math.inf):
            raise RequestError(f"dpi is a number above 0, not {pages.dpi!r}")
        if not is_a(Integral, pages.long_side) or pages.long_side < 1:
            raise RequestError(
                f"long_side is a whole number of pixels from 1, not {pages.long_side!r}"
            )
        if pages.password is not None and not is_a(str, pages.password):
            raise RequestError(f"password is text, not {type(pages.password).__name__}")
        parse_pages(pages.pages)
        self._reader = Reader(llm, read)
        self._pages = pages
        self._policy = policy
        self._concurrency = concurrency
        self._journal = journal
        self._guard = RunGuard()

    def run(self, files: Iterable[File | MediaError]) -> Generator[FileStart | Result, None, None]:
        """Read files; a failed page or file is a result with `error`, and reading continues.

        Raises:
            CheckpointError: The model cannot be used.
            ModelNotServedError: The server does not serve the model.
            ServerAccessError: The server rejected the key.
        """
        with closing(self._jobs(files)) as jobs:
            yield from in_order(jobs, self._quick, self._do, self._concurrency)

    async def arun(
        self, files: Iterable[File | MediaError]
    ) -> AsyncGenerator[FileStart | Result, None]:
        """Read files without blocking the event loop; see `run`."""
        jobs = self._jobs(files)
        results = ain_order(jobs, self._quick, self._ado, self._concurrency)
        async with aclosing(results):
            async for result in results:
                yield result

    def _jobs(self, files: Iterable[File | MediaError]) -> Generator[_Job, None, None]:
        for file in files:
            if isinstance(file, MediaError):
                yield Result(File(None, file.source), error=file)  # type: ignore[arg-type]
                continue
            held = file
            try:
                held = file.held(self._policy)
                yield from self._file(held)
            except (InternVLError, ImportError) as error:
                if isinstance(error, ImportError) and not isinstance(error, InternVLError):
                    raise
                name = file.source.name
                if isinstance(error, RequestError) and not str(error).startswith(name):
                    error = RequestError(f"{name}: {error}")  # about its pages
                yield Result(held, error=error, metadata=_base(file))

    def _file(self, file: File) -> Iterator[_Job]:
        """The pages of a file whose bytes are at hand: from the journal, or to be read."""
        version = FileVersion(file, self._policy)
        digest = version.digest
        total = None if self._journal is None else self._journal.total(digest)
        if total is None or self._journal is None:
            yield from self._unread(file, version, self._pages)
            return
        numbers = select_pages(parse_pages(self._pages.pages), total)
        kept = {number for number in numbers if self._journal.has(page_id(digest, number))}
        yield FileStart(file, len(numbers))
        todo = [number for number in numbers if number not in kept]
        unread = self._unread(file, version, replace(self._pages, pages=todo)) if todo else iter(())
        for number in numbers:
            if number not in kept:
                job = next((job for job in unread if not isinstance(job, FileStart)), None)
                if job is None:
                    raise MediaError(file.source.name, f"has no page {number} any more")
                yield job
                continue
            stored = self._journal.read(page_id(digest, number))
            stored.metadata = {**file.metadata, **stored.metadata, "source": file.name}
            yield Result(file, stored, is_resumed=True)

    def _unread(self, file: File, version: FileVersion, options: PageOptions) -> Iterator[_Job]:
        is_first = True
        for page in version.watched(pages_of(file.source, self._policy, options)):
            if is_first:
                if self._journal is not None:
                    self._journal.add_file(version.digest, page.total)
                numbers = select_pages(parse_pages(options.pages), page.total)
                yield FileStart(file, len(numbers))
                if page.stand_in is not None:
                    _LOG.warning("%s: %s", file.source.name, page.stand_in)
                is_first = False
            yield _PageJob(file, page, version.digest)

    def _quick(self, job: _Job) -> FileStart | Result | None:
        """The result of a job that needs no request to the model; None: it needs one."""
        if not isinstance(job, _PageJob):
            return job
        if job.page.picture is None:
            return self._settled(job, _of_layer(job.page))
        if isinstance(job.page.picture, MediaError):
            return self._failed(job, job.page.picture)
        return None

    def _do(self, job: _Job) -> FileStart | Result:
        assert isinstance(job, _PageJob)  # noqa: S101 - others are quick
        assert isinstance(job.page.picture, Image.Image)  # noqa: S101
        try:
            read = self._reader.read(job.page.picture)
        except InternVLError as error:
            if self._guard.ends(error):
                raise
            return self._failed(job, error)
        return self._settled(job, read)

    async def _ado(self, job: _Job) -> FileStart | Result:
        assert isinstance(job, _PageJob)  # noqa: S101 - others are quick
        assert isinstance(job.page.picture, Image.Image)  # noqa: S101
        try:
            read = await self._reader.aread(job.page.picture)
        except InternVLError as error:
            if self._guard.ends(error):
                raise
            return self._failed(job, error)
        return await run_in_executor(None, self._settled, job, read)

    def _settled(self, job: _PageJob, read: PageText) -> Result:
        """The result of a page; a damaged page without text has failed, it is not blank."""
        if read.way == "model":
            self._guard.succeeded()
        if job.page.damage is not None and not read.text:
            where = f"{job.file.source.name}, page {job.page.number}"
            return self._failed(job, MediaError(where, f"is damaged: {job.page.damage}"))
        return self._done(job, read)

    def _failed(self, job: _PageJob, error: InternVLError) -> Result:
        """The result of a page that the model failed to read: its text layer, else the error."""
        layer = job.page.layer
        if layer is not None and layer.text.strip():
            return self._done(job, PageText(layer.text.strip(), "fallback", error=str(error)))
        return Result(job.file, error=error, metadata=_metadata(job, None))

    def _done(self, job: _PageJob, read: PageText) -> Result:
        layer = job.page.layer
        if read.is_stuck and layer is not None and layer.text.strip():
            read = replace(read, text=layer.text.strip(), way="fallback", problem=None,
                           error="the model repeated itself")  # fmt: skip
        metadata = _metadata(job, read)
        where = f"{job.file.source.name}, page {job.page.number}"
        if read.problem is not None:
            _LOG.warning("%s: may not be read to its end (%s)", where, read.problem)
        if job.page.damage is not None:
            _LOG.warning("%s: part of it may be missing: %s", where, job.page.damage)
        if job.page.frames > 1:
            _LOG.warning("%s: %s", job.file.source.name, _ONE_OF.format(job.page.frames))
        document = Document(id=metadata["page_id"], page_content=read.text, metadata=metadata)
        # A fallback is not stored: the model may succeed in the next run.
        if self._journal is not None and read.way != "fallback":
            own = metadata.keys() - _of_page(job, read).keys()
            self._journal.add(metadata["page_id"], document, leave_out=own)
        return Result(job.file, document)


def _of_layer(page: Page) -> PageText:
    """A page whose text layer is taken as it is."""
    return PageText("" if page.layer is None else page.layer.text.strip(), "text_layer")


def _base(file: File) -> dict[str, Any]:
    return {**file.metadata, "source": file.name}


def _metadata(job: _PageJob, read: PageText | None) -> dict[str, Any]:
    """Metadata of a page and of its file, without keys that have no value."""
    return {**_base(job.file), **_of_page(job, read)}


def _of_page(job: _PageJob, read: PageText | None) -> dict[str, Any]:
    """Metadata of a page, the same for every file with these bytes."""
    page, layer = job.page, job.page.layer
    label = None if layer is None else layer.label
    values: dict[str, Any] = {
        "page": page.number,
        "total_pages": page.total,
        "page_label": label or str(page.number + 1),
        "page_id": page_id(job.digest, page.number),
    }
    size = getattr(page.picture, "size", None)
    if size is None and layer is not None:
        size = round(layer.width), round(layer.height)
    if size is not None:
        values["width"], values["height"] = size
    if page.failed is not None:
        values["text_layer"] = page.failed
    if page.damage is not None:
        values["damage"] = page.damage
    if page.stand_in is not None:
        values["stand_in"] = page.stand_in
    if page.frames > 1:
        values["frames"] = page.frames
    if read is None:
        return values
    values |= {"ocr": read.way, "rotation": read.rotation, "attempts": read.attempts}
    optional = {
        "finish_reason": read.finish_reason,
        "token_probability": None if read.probability is None else round(read.probability, 4),
        "model": read.model,
        "skew": read.skew or None,
        "parts": read.parts if read.parts > 1 else None,
        "problem": read.problem,
        "error": read.error,
        "elements": [_element(one) for one in read.elements],
    }
    return values | {name: value for name, value in optional.items() if value not in (None, [])}


def _element(one: Element) -> dict[str, Any]:
    values = {"label": one.label, "box": list(one.box), "brief": one.brief}
    return {name: value for name, value in values.items() if name != "brief" or value is not None}


def settle(result: FileStart | Result, on_error: OnError) -> Document | None:
    """The document of a result under a policy for failures; None: the result has none.

    Args:
        result: A result of `Pipeline.run`.
        on_error: See `OnError`.

    Raises:
        InternVLError: The page or file failed, and `on_error` raises its error.
    """
    if isinstance(result, FileStart):
        return None
    if result.error is None:
        return result.document
    is_whole = "page_id" not in result.metadata
    if on_error == "raise" or (on_error == "record_pages" and is_whole):
        raise result.error
    _LOG.warning("not read: %s", result.error)
    return None if on_error == "skip" else recorded(result)


def recorded(result: Result) -> Document:
    """The page that was read, or a document without text whose metadata has the `error`."""
    if result.document is not None:
        return result.document
    metadata = result.metadata or _base(result.file)
    return Document(
        id=metadata.get("page_id"),
        page_content="",
        metadata={**metadata, "error": str(result.error)},
    )
