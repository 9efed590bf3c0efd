"""Finds what a PDF page has that PDFium does not draw: PDFium reports no damage, and draws nothing.

Runs in the processes that read PDFs: pikepdf (qpdf) gives the encoded streams, which PDFium hides.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Any

from langchain_internvl._optional import require
from langchain_internvl.media.pdf_layers import has_hidden_layer
from langchain_internvl.media.pdf_stand_in import stand_in
from langchain_internvl.media.stream_ends import (
    is_group3_cut,
    is_group4_cut,
    is_jbig2_cut,
    is_jpeg2000_cut,
    is_jpeg_cut,
    is_lzw_cut,
    is_run_length_cut,
)

_IMAGE = 3
"""FPDF_PAGEOBJ_IMAGE."""
_DEPTH = 4
"""Maximum nesting depth of forms that are searched."""
_MOST_IMAGES = 200
_MOST_PARSED = 1 << 20
"""Maximum size in bytes of a content stream whose operators are read: that is slow."""
_CHUNK = 1 << 20
_MOST_DECODED = 1 << 28
"""Maximum bytes that are decompressed of a content stream, and of all images of a page."""
_MOST_BITS = 64
"""Maximum bits of a pixel whose data is read to the end."""
_BITS = sorted({
    size
    for count in range(1, 33)
    for size in (count, 2 * count, 4 * count, 8 * count, 16 * count)
    if size <= _MOST_BITS
})  # fmt: skip
"""Bits that a pixel may have in the file: up to 32 components, each of 1, 2, 4, 8 or 16 bits
(ISO 32000-1, 8.9.5.1 and annex C)."""
_STORED_BITS = {
    1: [1],
    8: [bits for bits in _BITS if 1 < bits <= 8],
    24: [bits for bits in _BITS if bits > 8],
    32: _BITS,
}
"""Bits that a pixel may have in the file, by its bits after PDFium's conversion: PDFium widens 2 to
7 bits to 8, and converts more to 24; an image with a mask by colours has 32, whatever the file."""
_SLACK = 16
"""Bytes at the end of pixels without a filter that are no pixels, as line ends."""

_OPERATORS = frozenset({
    "b", "B", "b*", "B*", "BDC", "BI", "BMC", "BT", "BX", "c", "cm", "CS", "cs", "d", "d0", "d1",
    "Do", "DP", "EI", "EMC", "ET", "EX", "f", "F", "f*", "G", "g", "gs", "h", "i", "ID", "j", "J",
    "K", "k", "l", "m", "M", "MP", "n", "q", "Q", "re", "RG", "rg", "ri", "s", "S", "SC", "sc",
    "SCN", "scn", "sh", "T*", "Tc", "Td", "TD", "Tf", "Tj", "TJ", "TL", "Tm", "Tr", "Ts", "Tw",
    "Tz", "v", "w", "W", "W*", "y", "'", '"', "INLINE IMAGE",
})  # fmt: skip
"""Operators of content streams (ISO 32000-1, annex A), and pikepdf's name of an inline image."""


class PdfInspector:
    """Finds damaged streams of the pages of a PDF, and what PDFium does not tell of them.

    Args:
        data: The file.
        password: Its password; None: none.
        total: Number of its pages, as PDFium counts them.

    Raises:
        ImportError: The extra `documents` is not installed.
    """

    def __init__(self, data: bytes, password: str | None, total: int) -> None:
        self._pikepdf = require("pikepdf", extra="documents")
        self._pages: Any = ()
        with suppress(Exception):  # qpdf refuses some files that PDFium repairs
            file = self._opened(data, password)
            if len(file.pages) == total:  # else their page trees differ
                self._file, self._pages = file, file.pages
        self._data = data

    def _opened(self, data: bytes, password: str | None) -> Any:
        """The file of pikepdf; see `pdf_worker` for a password that is not needed."""
        try:
            return self._pikepdf.open(io.BytesIO(data), password=password or "")
        except self._pikepdf.PasswordError:
            return self._pikepdf.open(io.BytesIO(data))

    def stand_in(self) -> str | None:
        """Why the pages may not show the content of the file; see `pdf_stand_in`."""
        with suppress(Exception):  # of any type, on broken files
            return stand_in(self._file) if self._pages else None
        return None

    def user_unit(self, number: int) -> float:
        """Size of a page's unit in points, which PDFium does not apply (ISO 32000-1, 14.11.2)."""
        unit = self._pages[number].obj.get("/UserUnit", 1) if number < len(self._pages) else 1
        return float(unit) if float(unit) > 0 else 1.0

    def hides_layers(self, number: int) -> bool:
        """Whether a page has content in a layer that is switched off; see `pdf_layers`."""
        return number < len(self._pages) and has_hidden_layer(
            self._file.Root, self._pages[number].obj
        )

    def damage(self, number: int, page: Any = None) -> str | None:
        """What of a page cannot be drawn, as far as its streams tell.

        Args:
            number: Index of the page.
            page: The page, of pypdfium2, if its images are to be checked, too.

        Returns:
            The damage; None: none was found. The rest of the page may be drawn all the same.
        """
        try:
            return next(
                chain(
                    self._contents_damage(number),
                    () if page is None else self._image_damage(number, page),
                ),
                None,
            )
        except Exception as error:  # noqa: BLE001 - qpdf and PDFium raise anything on broken files
            return f"its structure cannot be followed ({type(error).__name__})"

    def _image_damage(self, number: int, page: Any) -> Iterator[str]:
        """Images of a page that are cut off: PDFium draws them up to there, or not at all."""
        left = _MOST_DECODED
        known = set()  # a page may draw one image many times
        for image in _images(page):
            filters, facts = image.get_filters(), image.get_metadata()
            if filters not in _SIMPLE and len(filters) != 1:
                continue
            data, sizes = bytes(image.get_data(decode_simple=False)), _sizes(facts)
            same = (len(data), hash(data), *filters, *sizes)
            is_decoded = same not in known and (filters in _SIMPLE or filters[0] in _HIDDEN)
            if (left := left - max(sizes[-1] if is_decoded else 0, len(data))) < 0:
                return
            if same in known:
                continue
            known.add(same)
            if filters in _SIMPLE:
                if (reason := _pixel_damage(data, filters, sizes)) is not None:
                    yield f"an image on it {reason}"
            else:
                damage, is_cut = _ENDS.get(filters[0], ("", None))
                if is_cut is not None and is_cut(data):
                    yield damage
                given = self._parameters(number, data) if filters[0] in _HIDDEN else None
                if given is not None and _HIDDEN[filters[0]](data, facts.height, given):
                    yield f"an image on it is cut off or damaged ({filters[0]})"

    def _parameters(self, number: int, data: bytes) -> Any:
        """The parameters of the filter of an image, which PDFium hides.

        Args:
            number: Index of the page.
            data: The encoded image.

        Returns:
            Those of the stream with these bytes; None: there is none.
        """
        streams = _streams(self._pages[number].obj) if number < len(self._pages) else ()
        for one in (image for _, objects in streams for image in objects.values()):
            if one.get("/Filter") is not None and one.read_raw_bytes() == data:
                return _parameters(one)
        return None

    def hidden(self, number: int, page: Any) -> str | None:
        """Why a page on which nothing is drawn may not be empty.

        Args:
            number: Index of the page.
            page: The page, of pypdfium2.

        Returns:
            The reason; None: the page is empty, or all it has is invisible by intent: white,
            transparent, in a hidden layer or outside of the page.
        """
        try:
            found: Iterator[str] = chain(
                self._contents_damage(number),
                self._operator_damage(number),
                _undrawn_images(page),
            )
            return next(found, None)
        except Exception as error:  # noqa: BLE001 - see `damage`
            return f"its structure cannot be followed ({type(error).__name__})"

    def _contents_damage(self, number: int) -> Iterator[str]:
        if number >= len(self._pages):
            return
        page = self._pages[number].obj
        if "/Contents" not in page and self._had_contents(page):
            yield "its content stream is missing from the file"
        for stream, _ in _streams(page):
            if (reason := _stream_damage(stream)) is not None:
                yield f"its content stream {reason}"

    def _had_contents(self, page: Any) -> bool:
        """Whether a page names content that is not in the file; qpdf leaves such names out."""
        start = rb"(?<!\d)%d +%d +obj\b" % page.objgen
        found = re.findall(start + rb"((?:(?!endobj).){0,65536})", self._data, re.DOTALL)
        return bool(found) and b"/Contents" in found[-1]  # updates of a file are at its end

    def _operator_damage(self, number: int) -> Iterator[str]:
        """Content that is no page description, or draws what is missing."""
        if number >= len(self._pages):
            return
        for stream, resources in _streams(self._pages[number].obj):
            data = stream.read_bytes()
            if len(data) > _MOST_PARSED or not data.strip(b"\0\t\n\f\r "):
                continue
            self._file.get_warnings()  # clears them
            try:
                steps = [
                    (str(step.operator), step.operands)
                    for step in self._pikepdf.parse_content_stream(stream)
                ]
            except (UnicodeDecodeError, ValueError, self._pikepdf.PdfError):
                steps = [("", [])]
            unknown = [name for name, _ in steps if name not in _OPERATORS]
            if unknown and not any(name == "BX" for name, _ in steps):
                yield "its content stream has no drawing operators, only other data"
            if self._file.get_warnings():
                yield "its content stream is cut off or malformed"
            for name, operands in steps:
                if name == "Do" and str(operands[0]) not in resources:
                    yield f"it draws {operands[0]}, which is missing from the file"


def _streams(
    owner: Any, depth: int = 0, known: set[Any] | None = None
) -> Iterator[tuple[Any, Any]]:
    """Content streams of a page or a form and of the forms in it, each with its XObjects.

    Forms often share one dictionary of resources, which names all of them: each comes once.
    """
    known = set() if known is None else known
    node, resources = owner, owner.get("/Resources")
    while resources is None and (node := node.get("/Parent")) is not None:  # inherited
        resources = node.get("/Resources")
    objects = {} if resources is None else dict(resources.get("/XObject", {}).items())
    own = owner.get("/Contents") if depth == 0 else owner
    pikepdf = require("pikepdf", extra="documents")
    for stream in own if isinstance(own, pikepdf.Array) else [own]:
        if isinstance(stream, pikepdf.Stream):
            yield stream, objects
    for one in objects.values():
        is_new = one is not None and one.objgen not in known
        if is_new and depth < _DEPTH and one.get("/Subtype") == "/Form":
            known.add(one.objgen)
            yield from _streams(one, depth + 1, known)


def _stream_damage(stream: Any) -> str | None:
    """Why a stream cannot be decoded to its end; None: it can."""
    filters = stream.get("/Filter")
    raw = stream.read_raw_bytes()
    if filters == "/FlateDecode" or str(filters) == "[/FlateDecode]":
        return _flate_damage(raw)
    try:
        stream.read_bytes()
    except Exception:  # noqa: BLE001 - qpdf's errors, of an unknown or a failing filter
        return "cannot be decoded"
    is_lzw = str(filters) in {"/LZWDecode", "[/LZWDecode]"} and len(raw) <= _MOST_PARSED
    return "is cut off" if is_lzw and is_lzw_cut(raw, early_change=_is_early(stream)) else None


def _is_early(stream: Any) -> bool:
    """Whether the codes of an LZW stream become longer one code early (ISO 32000-1, 7.4.4.3)."""
    return bool(_parameters(stream).get("/EarlyChange", 1))


def _parameters(stream: Any) -> Any:
    """The parameters of a stream's only filter."""
    found = stream.get("/DecodeParms")
    if isinstance(found, require("pikepdf", extra="documents").Array):
        found = found[0] if len(found) else None
    return {} if found is None else found


def _flate_damage(raw: bytes, least: int = 0, most: int = _MOST_DECODED) -> str | None:
    """Why zlib data (RFC 1950) does not decompress to its end; None: it does.

    Args:
        raw: The data; its checksum may be missing, as some programs leave it out.
        least: Least size of the decompressed data, in bytes.
        most: Size from which on the rest is not read, in bytes.
    """
    raw = raw.lstrip(b"\r\n")
    if not raw:
        return None if not least else "is empty"
    if len(raw) < 2 or raw[0] & 15 != 8 or int.from_bytes(raw[:2], "big") % 31:
        return "cannot be decompressed"
    decoder = zlib.decompressobj(-15)  # without header and checksum
    pending, size, checksum = raw[2:], 0, 1
    try:
        while pending and not decoder.eof:
            if size > most:
                return None
            block = decoder.decompress(pending, _CHUNK)
            size, checksum = size + len(block), zlib.adler32(block, checksum)
            pending = decoder.unconsumed_tail
    except zlib.error:
        return "is damaged: part of it cannot be decompressed" if size else "cannot be decompressed"
    stored = decoder.unused_data[:4]
    if decoder.eof and len(stored) == 4 and stored != checksum.to_bytes(4, "big"):
        return "is damaged: its checksum is wrong"
    return None if decoder.eof and size >= least else "is cut off"


def _images(page: Any) -> Iterator[Any]:
    for count, image in enumerate(page.get_objects(filter=[_IMAGE], max_depth=_DEPTH)):
        if count >= _MOST_IMAGES:
            return
        yield image


def _pixel_damage(data: bytes, filters: list[str], sizes: list[int]) -> str | None:
    """Why pixels without a lossy or a two-colour filter are not whole; None: they are.

    Args:
        data: The encoded pixels.
        filters: Names of its filters.
        sizes: Sizes in bytes that its pixels may have, ascending.
    """
    if filters == ["FlateDecode"]:
        return _flate_damage(data, sizes[0], sizes[-1])
    if filters == ["RunLengthDecode"]:
        return "is cut off" if is_run_length_cut(data, sizes) else None
    is_whole = any(size <= len(data) <= size + _SLACK for size in sizes)
    return None if is_whole or len(data) > sizes[-1] else "is cut off"


def _is_fax_cut(data: bytes, height: int, given: Any) -> bool:
    """Whether an image of CCITT group 3 with marks between its rows, or of group 4, is cut off."""
    if int(given.get("/K", 0)) >= 0:
        return len(data) <= _MOST_PARSED and is_group3_cut(data, height)
    if bool(given.get("/EncodedByteAlign", False)):
        return False
    width = int(given.get("/Columns", 1728))
    return width * height <= 8 * _MOST_DECODED and is_group4_cut(data, width, height)


def _is_lzw_image_cut(data: bytes, _: int, given: Any) -> bool:
    is_early = bool(given.get("/EarlyChange", 1))
    return len(data) <= _MOST_PARSED and is_lzw_cut(data, early_change=is_early)


_SIMPLE: tuple[list[str], ...] = ([], ["FlateDecode"], ["RunLengthDecode"])
"""Filters of pixels whose decoded size is checked."""

_HIDDEN: dict[str, Callable[[bytes, int, Any], bool]] = {
    "CCITTFaxDecode": _is_fax_cut,
    "LZWDecode": _is_lzw_image_cut,
}
"""Filters whose parameters are needed, and functions of encoded bytes, height and parameters."""

_ENDS: dict[str, tuple[str, Callable[[bytes], bool]]] = {
    "DCTDecode": ("a JPEG image on it is cut off or damaged: it has no end mark", is_jpeg_cut),
    "JPXDecode": ("a JPEG 2000 image on it is cut off: it has no end mark", is_jpeg2000_cut),
    "JBIG2Decode": ("a JBIG2 image on it is cut off", is_jbig2_cut),
}
"""Filters, the damage, and functions that find it in the encoded bytes."""


def _sizes(facts: Any) -> list[int]:
    """The sizes in bytes that the pixels of an image may have in the file, ascending.

    Args:
        facts: Its metadata, of pypdfium2.
    """
    bits = _STORED_BITS.get(facts.bits_per_pixel, _BITS)
    return [facts.height * -(-facts.width * one // 8) for one in bits]


def _undrawn_images(page: Any) -> Iterator[str]:
    for image in _images(page):
        try:
            image.get_bitmap()
        except Exception:  # noqa: BLE001 - of any type: the image cannot be decoded
            kinds = ", ".join(image.get_filters()) or "no filter"
            yield f"an image on it cannot be decoded ({kinds})"
