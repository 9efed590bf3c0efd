"""Iterates over the pages of a file, as images or as text layers."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby, islice
from typing import Literal

import numpy as np
from PIL import Image

from langchain_internvl.documents.page_image import (
    fit_size,
    open_page,
    page_from_array,
    shrink,
)
from langchain_internvl.documents.text_layer import failed_test
from langchain_internvl.errors import MediaError
from langchain_internvl.media.image_frames import count_frames
from langchain_internvl.media.images import sniff_mime_type
from langchain_internvl.media.page_ranges import Pages, parse_pages, select_pages
from langchain_internvl.media.pdf import stream_pages
from langchain_internvl.media.pdf_text import PdfPageText, stream_texts
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.print_size import print_size_of
from langchain_internvl.media.signatures import is_pdf
from langchain_internvl.media.sources import PathSource, Source
from langchain_internvl.media.tiff_pages import stream_tiff_pages

OcrMode = Literal["auto", "always", "never"]

_WINDOW = 64
"""Batch size: text layers of this many pages are tested before the failing ones are rendered."""
_HEAD = 1024


@dataclass(frozen=True)
class PageOptions:
    """Selection and rendering of pages.

    Attributes:
        pages: Selected pages; see `parse_pages`. None: all.
        password: Password of encrypted PDFs.
        ocr: "auto": a good text layer is kept; "always": every page is read by the model;
            "never": only text layers are used; images have none.
        dpi: Resolution at which pages of PDFs are rendered; None: by `long_side`.
        long_side: Longer side of an A4 page in pixels.
    """

    pages: Pages = None
    password: str | None = None
    ocr: OcrMode = "auto"
    dpi: float | None = None
    long_side: int = 1792


@dataclass(frozen=True)
class Page:
    """A page of a file.

    Attributes:
        number: Index of the page, from 0.
        total: Number of pages of the file.
        picture: Image, in mode RGB and upright, or the error of rendering it; None: the text layer
            is used.
        layer: Text layer and properties of a PDF page; None: the file is not a PDF.
        failed: Name of the test that the text layer failed; None: it passed, or was not tested.
        damage: What of the page may be missing because the file is damaged; None: no damage was
            found.
        inches: Width and height of an image on paper, upright; None: unknown, or a PDF.
        frames: Number of images in the file, of which the page is the first: an animation, or
            several pictures in one file that is no TIFF.
    """

    number: int
    total: int
    picture: Image.Image | MediaError | None
    layer: PdfPageText | None = None
    failed: str | None = None
    damage: str | None = None
    inches: tuple[float, float] | None = None
    frames: int = 1

    @property
    def stand_in(self) -> str | None:
        """Why the pages of a PDF may not show its content; see `pdf_stand_in`."""
        return None if self.layer is None else self.layer.stand_in


def pages_of(
    source: Source, policy: MediaPolicy, options: PageOptions | None = None
) -> Iterator[Page]:
    """The pages of an image, a TIFF, a PDF or a NumPy array.

    A page that cannot be decoded is yielded with its error, and iteration continues. At most two
    rendered pages of a PDF are in memory at a time.

    Args:
        source: The file. Its kind is detected from its bytes, not from its name.
        policy: Limits on bytes, pixels and pages.
        options: Selection and rendering of pages; None: the defaults.

    Raises:
        MediaError: The file as a whole cannot be read.
        RequestError: The file does not have the requested pages.
    """
    options = options or PageOptions()
    for page in _pages_of(source, policy, options):
        has_image = isinstance(page.picture, Image.Image)
        yield replace(page, picture=None) if has_image and options.ocr == "never" else page


def _pages_of(source: Source, policy: MediaPolicy, options: PageOptions) -> Iterator[Page]:
    head = read_head(source, policy)
    if is_pdf(head):
        yield from _pdf(source, policy, options)
        return
    data = source.read(policy)
    if not data:
        raise MediaError(source.name, "is empty")
    is_array = head[:6] == b"\x93NUMPY"
    if is_array:
        load = partial(_array, data, source.name, policy)
    elif sniff_mime_type(data) == "image/tiff":
        yield from _tiff(data, source.name, policy, options)
        return
    else:
        load = partial(open_page, data, source.name, policy)
    page = replace(_single(source.name, load, options.long_side), inches=print_size_of(data))
    if not is_array:
        page = replace(page, frames=count_frames(data, source.name, policy))
    for _ in select_pages(parse_pages(options.pages), 1):
        yield page


def read_head(source: Source, policy: MediaPolicy) -> bytes:
    """The first bytes of a file; no more than these is read of a local file."""
    if isinstance(source, PathSource):
        path = source.check(policy)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - a path that was just checked
                return file.read(_HEAD)
        except OSError as error:
            raise MediaError(source.name, f"cannot be read: {error.strerror}") from error
    return source.read(policy)[:_HEAD]


def _single(name: str, load: Callable[[], Image.Image], long_side: int) -> Page:
    """The page of a single-page file; an error is raised for the whole file."""
    try:
        return Page(0, 1, shrink(load(), long_side))
    except MediaError:
        raise
    except Exception as error:  # Pillow's readers raise anything on broken files
        raise MediaError(name, f"is truncated or corrupt: {error}") from error


def _array(data: bytes, name: str, policy: MediaPolicy) -> Image.Image:
    """The page of an array of `numpy.save`; objects are not unpickled."""
    try:
        array = np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise MediaError(name, f"is no array that can be read: {error}") from error
    return page_from_array(array, name, policy)


def _tiff(data: bytes, name: str, policy: MediaPolicy, options: PageOptions) -> Iterator[Page]:
    """The pages of a TIFF, up to where its chain of pages is broken."""
    for page in stream_tiff_pages(data, name, policy, pages=options.pages):
        image = page.image
        shown = image if isinstance(image, MediaError) else shrink(image, options.long_side)
        yield Page(page.number, page.total, shown, inches=page.inches)


def _pdf(source: Source, policy: MediaPolicy, options: PageOptions) -> Iterator[Page]:
    """The pages of a PDF: those with a good text layer are not rendered."""
    texts = stream_texts(source, policy, pages=options.pages, password=options.password)
    try:
        while window := list(islice(texts, _WINDOW)):
            pages = [_judged(text, options.ocr) for text in window]
            if options.ocr == "never":
                yield from pages
            else:
                yield from _rendered(pages, source, policy, options)
    finally:
        texts.close()


def _judged(text: PdfPageText, ocr: OcrMode) -> Page:
    failed = failed_test(text) if ocr == "auto" else None
    return Page(text.number, text.total, None, text, failed, text.damage)


def _rendered(
    pages: list[Page], source: Source, policy: MediaPolicy, options: PageOptions
) -> Iterator[Page]:
    """Pages in order, with images of those that the model reads."""

    def key(page: Page) -> int | None:
        keeps_layer = options.ocr == "auto" and page.failed is None
        return None if keeps_layer else _long_side(page.layer, options)

    for long_side, run in groupby(pages, key):
        if long_side is None:
            yield from run
            continue
        known = list(run)
        numbers = [page.number for page in known]
        rendered = stream_pages(
            source, policy, pages=numbers, password=options.password, long_side=long_side
        )
        try:
            for page, drawn in zip(known, rendered, strict=True):
                image = drawn.image
                shown = image if isinstance(image, MediaError) else Image.fromarray(image)
                yield replace(page, picture=shown, damage=drawn.damage or page.damage)
        finally:
            rendered.close()


def _long_side(layer: PdfPageText | None, options: PageOptions) -> int:
    """Longer side in pixels at which a page is rendered."""
    if layer is None or min(layer.width, layer.height) <= 0:
        return options.long_side
    if options.dpi is not None:
        return max(1, round(max(layer.width, layer.height) / 72 * options.dpi))
    return max(fit_size(layer.width, layer.height, options.long_side))
