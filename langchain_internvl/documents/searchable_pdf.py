"""PDFs with an invisible text layer over their scans, for search and copying; needs pikepdf.

Replies have no positions of lines, so lines are spread evenly over the page, or over the extent
of its regions (`elements`) if the model reports layout. Search finds the page and the approximate
height of a line, not the exact position of a word. Rows of HTML tables are lines without tags.
Letters of right-to-left scripts are in visual order, as in other PDFs.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import Any

from langchain_core.documents import Document
from PIL import Image

from langchain_internvl._optional import require
from langchain_internvl.documents.html_text import lines_of
from langchain_internvl.documents.orientation import turn
from langchain_internvl.documents.pages import Page, PageOptions, pages_of, read_head
from langchain_internvl.documents.visual_order import to_visual_order
from langchain_internvl.errors import InternVLError, MediaError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.signatures import is_pdf
from langchain_internvl.media.sources import PathSource, Source

_DPI = 150
"""Resolution of an image that has none, or one that cannot be; see `print_size`."""
_WIDTH = 500
"""Width of each letter of the layer's font, in thousandths of its size."""


def make_searchable(
    source: Source,
    pages: Sequence[Document],
    policy: MediaPolicy,
    *,
    password: str | None = None,
) -> bytes:
    """A PDF with the appearance of a document and the text of its pages.

    Pages of a PDF keep their content; a page whose own text layer was kept gets no second one. An
    image becomes a page of the size that its resolution says, or else at 150 dpi. Pages and images
    that were read turned are shown turned by their `rotation`, upright.

    Args:
        source: The document.
        pages: Its pages as `InternVLLoader` loads them.
        policy: Limits on files.
        password: Password of an encrypted PDF; the result is not encrypted.

    Returns:
        The bytes of the PDF.

    Raises:
        MediaError: The document cannot be read, or is too damaged to be changed.
        ImportError: The extra `searchable-pdf` is not installed.
    """
    pikepdf = require("pikepdf", extra="searchable-pdf")
    is_paged = is_pdf(read_head(source, policy))
    try:
        pdf, places = (
            _opened(pikepdf, source, pages, policy, password)
            if is_paged
            else _from_images(pikepdf, source, pages, policy)
        )
        with pdf:
            return _with_layer(pikepdf, pdf, places, turns=is_paged)
    except InternVLError:
        raise
    except Exception as error:  # objects of a broken file may be of any type
        raise MediaError(source.name, f"cannot be made searchable: {error}") from error


def _opened(
    pikepdf: Any,
    source: Source,
    pages: Sequence[Document],
    policy: MediaPolicy,
    password: str | None,
) -> tuple[Any, dict[int, Document]]:
    """A PDF, and the document of each page by its index.

    Raises:
        MediaError: It has other pages than those that were read, as a damaged file may have for
            another reader.
    """
    path: Any = source.check(policy) if isinstance(source, PathSource) else None
    pdf = pikepdf.open(path or io.BytesIO(source.read(policy)), password=password or "")
    counted = {one for page in pages if (one := page.metadata.get("total_pages")) is not None}
    if counted and counted != {len(pdf.pages)}:
        raise MediaError(
            source.name,
            f"cannot be made searchable: it is damaged, {max(counted)} pages were read, and "
            f"{len(pdf.pages)} are found by pikepdf",
        )
    return pdf, {int(page.metadata.get("page", -1)): page for page in pages}


def _with_layer(pikepdf: Any, pdf: Any, places: Mapping[int, Document], *, turns: bool) -> bytes:
    """The PDF with the text of its pages; `turns`: they are turned by their `rotation`."""
    layer = _Layer(pikepdf, pdf)
    for number, page in enumerate(pdf.pages):
        read = places.get(number)
        if read is not None and read.metadata.get("ocr") in {"model", "blank"}:
            if turns and read.metadata.get("rotation"):
                page.rotate(read.metadata["rotation"], relative=True)
            layer.add(page, read)
    layer.finish()
    buffer = io.BytesIO()
    pdf.save(buffer)
    return buffer.getvalue()


def _from_images(
    pikepdf: Any, source: Source, pages: Sequence[Document], policy: MediaPolicy
) -> tuple[Any, dict[int, Document]]:
    """A PDF of the read images, in order, and the document of each page by its index."""
    read = {page.metadata.get("page"): page for page in pages}
    pdf = pikepdf.new()
    places: dict[int, Document] = {}
    for page in pages_of(source, policy, PageOptions(long_side=3508)):
        if page.number not in read or not isinstance(page.picture, Image.Image):
            continue
        image = turn(page.picture, read[page.number].metadata.get("rotation", 0))
        buffer = io.BytesIO()
        image.save(buffer, "PDF", dpi=_resolution(page, image), quality=85)
        places[len(pdf.pages)] = read[page.number]
        with pikepdf.open(buffer) as one:
            pdf.pages.extend(one.pages)
    if not len(pdf.pages):
        raise MediaError(source.name, "has no page that can be made searchable")
    return pdf, places


def _resolution(page: Page, image: Image.Image) -> tuple[float, float]:
    """Dots per inch of the image of a page that was turned, across and down."""
    if page.inches is None or not isinstance(page.picture, Image.Image):
        return _DPI, _DPI
    across, down = (
        pixels / inches for pixels, inches in zip(page.picture.size, page.inches, strict=True)
    )
    return (across, down) if image.size == page.picture.size else (down, across)


class _Layer:
    """Invisible text (rendering mode 3) in a font without glyphs, whose codes are numbered."""

    def __init__(self, pikepdf: Any, pdf: Any) -> None:
        self._pikepdf = pikepdf
        self._pdf = pdf
        self._codes: dict[str, int] = {}
        self._font = pdf.make_indirect(pikepdf.Dictionary())

    def add(self, page: Any, read: Document) -> None:
        """Write the text of a page, which is shown upright."""
        lines = [line.strip() for line in lines_of(read.page_content) if line.strip()]
        if not lines:
            return
        shown = _common(page.cropbox, page.mediabox)
        width, height, matrix = _frame(shown, int(page.obj.get("/Rotate", 0)) % 360)
        left, right, bottom, top = _extent(read, width, height)
        step = (top - bottom) / len(lines)
        size = max(1.0, min(step * 0.8, 24.0))
        commands = [f"q {matrix} cm BT 3 Tr", f"/{self._name(page)} {size:.2f} Tf"]
        for number, line in enumerate(lines):
            width = len(line) * size * _WIDTH / 1000
            squeezed = min(100.0, 100 * (right - left) / max(width, 1e-6))
            y = top - (number + 0.8) * step
            commands.append(
                f"{squeezed:.2f} Tz 1 0 0 1 {left:.2f} {y:.2f} Tm <{self._hex(line)}> Tj"
            )
        commands.append("ET Q")
        # Before the page's own content, which may leave its scale and its clipping behind.
        page.contents_add(self._pdf.make_stream("\n".join(commands).encode()), prepend=True)

    def _name(self, page: Any) -> str:
        """The font's name among the resources of a page, which may have such a layer already."""
        known = page.obj.get("/Resources", {}).get("/Font", {})
        name = next(
            name
            for name in (f"InternVLText{number or ''}" for number in count())
            if f"/{name}" not in known or known[f"/{name}"].objgen == self._font.objgen
        )
        page.add_resource(self._font, self._pikepdf.Name.Font, name=f"/{name}")
        return name

    def _hex(self, line: str) -> str:
        """A line in the font's codes; at most 65,535 different characters have one.

        A line of one character ends in a space: PDFium drops such a line, or joins it to another.
        """
        codes = []
        for letter in to_visual_order(line) if len(line) > 1 else f"{line} ":
            if letter not in self._codes and len(self._codes) < 65_534:
                self._codes[letter] = len(self._codes) + 1
            codes.append(self._codes.get(letter, 0))
        return "".join(f"{code:04X}" for code in codes)

    def finish(self) -> None:
        """Write the font's map from codes to characters (ISO 32000-1, 9.10.3)."""
        name, dictionary = self._pikepdf.Name, self._pikepdf.Dictionary
        maps = self._pdf.make_stream(_to_unicode(self._codes.items()).encode())
        descriptor = dictionary(
            Type=name.FontDescriptor, FontName=name.InternVLText, Flags=4,
            FontBBox=[0, 0, 500, 800], ItalicAngle=0, Ascent=800, Descent=-200,
            CapHeight=800, StemV=80,
        )  # fmt: skip
        descendant = dictionary(
            Type=name.Font, Subtype=name.CIDFontType2, BaseFont=name.InternVLText, DW=_WIDTH,
            CIDSystemInfo=dictionary(Registry="Adobe", Ordering="Identity", Supplement=0),
            FontDescriptor=self._pdf.make_indirect(descriptor), CIDToGIDMap=name.Identity,
        )  # fmt: skip
        self._font.Type = name.Font
        self._font.Subtype = name.Type0
        self._font.BaseFont = name.InternVLText
        self._font.Encoding = name("/Identity-H")
        self._font.DescendantFonts = [self._pdf.make_indirect(descendant)]
        self._font.ToUnicode = maps


def _common(one: Iterable[Any], other: Iterable[Any]) -> tuple[float, float, float, float]:
    """The rectangle that two have in common (ISO 32000-1, 14.11.2.1); `other` if they have none."""
    corners = [[float(edge) for edge in box] for box in (one, other)]
    sides = [(*sorted(box[::2]), *sorted(box[1::2])) for box in corners]
    left, bottom = (max(side[at] for side in sides) for at in (0, 2))
    right, top = (min(side[at] for side in sides) for at in (1, 3))
    if left < right and bottom < top:
        return left, bottom, right, top
    return sides[1][0], sides[1][2], sides[1][1], sides[1][3]


def _frame(box: Iterable[Any], degrees: int) -> tuple[float, float, str]:
    """The page as it is read: its width, its height, and the matrix to the coordinates of the PDF.

    Args:
        box: Left, bottom, right and top edge of what is shown of the page.
        degrees: How far it is turned clockwise to be upright: 0, 90, 180 or 270.
    """
    x0, y0, x1, y1 = (float(one) for one in box)
    left, right, bottom, top = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    width, height = right - left, top - bottom
    if degrees in {90, 270}:
        width, height = height, width
    matrices = {
        90: (0, 1, -1, 0, right, bottom),
        180: (-1, 0, 0, -1, right, top),
        270: (0, -1, 1, 0, left, top),
    }
    matrix = matrices.get(degrees, (1, 0, 0, 1, left, bottom))
    return width, height, " ".join(f"{one:g}" for one in matrix)


def _extent(read: Document, width: float, height: float) -> tuple[float, float, float, float]:
    """Left, right, bottom and top of the text: around its regions, or within the margins."""
    regions = [one["box"] for one in read.metadata.get("elements", ())]
    x0, y0, x1, y1 = 60, 60, 940, 940
    if regions:
        x0, y0 = min(one[0] for one in regions), min(one[1] for one in regions)
        x1, y1 = max(one[2] for one in regions), max(one[3] for one in regions)
    if x0 >= x1 or y0 >= y1:
        x0, y0, x1, y1 = 60, 60, 940, 940
    return (
        width * x0 / 1000, width * x1 / 1000,
        height * (1000 - y1) / 1000, height * (1000 - y0) / 1000,
    )  # fmt: skip


def _to_unicode(codes: Iterable[tuple[str, int]]) -> str:
    """A CMap from codes to UTF-16."""
    lines = [
        f"<{code:04X}> <{letter.encode('utf-16-be', 'surrogatepass').hex().upper()}>"
        for letter, code in codes
    ]
    blocks = [lines[at : at + 100] for at in range(0, len(lines), 100)]
    body = "\n".join(
        f"{len(block)} beginbfchar\n" + "\n".join(block) + "\nendbfchar" for block in blocks
    )
    return (
        "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (UCS) /Supplement 0 >> def\n"
        "/CMapName /Adobe-Identity-UCS def /CMapType 2 def\n"
        "1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
        f"{body}\n"
        "endcmap CMapName currentdict /CMap defineresource pop end end"
    )
