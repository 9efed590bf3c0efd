"""Pages of PDFs that PDFium draws in part or not at all, without a word."""

import io
import zlib

import numpy as np
import pikepdf
import pypdfium2
import pytest
from drawn_pages import encode
from PIL import Image

from langchain_internvl import MediaPolicy
from langchain_internvl.errors import MediaError
from langchain_internvl.media import pdf_damage
from langchain_internvl.media.pdf import read_pages, stream_pages
from langchain_internvl.media.pdf_damage import PdfInspector
from langchain_internvl.media.pdf_text import stream_texts
from langchain_internvl.media.sources import BytesSource
from langchain_internvl.media.stream_ends import is_group3_cut, is_group4_cut, is_run_length_cut

POLICY = MediaPolicy()
WORDS = b"BT /F1 30 Tf 50 700 Td (Hello world) Tj ET\n"
LINES = b"".join(
    b"BT /F1 12 Tf 50 %d Td (Line %d of %x has words) Tj ET\n" % (800 - i * 12, i, i**9)
    for i in range(60)
)
DRAW = b"q 500 0 0 700 50 50 cm /Im0 Do Q"
PIXELS = np.random.default_rng(0).integers(0, 99, (300, 200, 3), np.uint8)
JPEG = encode(Image.fromarray(PIXELS), "JPEG")


def add_page(pdf, content, filter_=None, *, image=None, bits=8, space="/DeviceRGB"):
    """A page with a content stream, and an image of 200 x 300 as (encoded bytes, filter)."""
    page = pdf.add_blank_page(page_size=(595, 842))
    name, dictionary = pikepdf.Name, pikepdf.Dictionary
    font = dictionary(Type=name.Font, Subtype=name.Type1, BaseFont=name.Helvetica)
    page.Resources = dictionary(Font=dictionary(F1=font))
    if image is not None:
        stream = pikepdf.Stream(pdf, b"")
        stream.write(image[0], filter=None if image[1] is None else name(image[1]))
        stream.Type, stream.Subtype = name.XObject, name.Image
        stream.Width, stream.Height, stream.BitsPerComponent = 200, 300, bits
        stream.ColorSpace = pikepdf.Object.parse(space.encode())
        page.Resources.XObject = dictionary(Im0=pdf.make_indirect(stream))
    contents = pikepdf.Stream(pdf, b"")
    contents.write(content, filter=None if filter_ is None else name(filter_))
    page.Contents = pdf.make_indirect(contents)


def saved(pdf):
    buffer = io.BytesIO()
    level = pikepdf.StreamDecodeLevel.none
    pdf.save(buffer, compress_streams=False, stream_decode_level=level)
    return buffer.getvalue()


def pdf_of(*page, before=(), **options):
    pdf = pikepdf.new()
    for content in before:
        add_page(pdf, content)
    add_page(pdf, *page, **options)
    return saved(pdf)


PACKED = zlib.compress(WORDS * 3)
UNDRAWN = {
    "binary": (pdf_of(bytes(range(128, 256)) * 8), "no drawing operators"),
    "words": (pdf_of(b"lorem ipsum dolor 12 sit amet "), "no drawing operators"),
    "header": (pdf_of(b"\0\x11" + PACKED[2:], "/FlateDecode"), "cannot be decompressed"),
    "zeros": (pdf_of(bytes(len(PACKED)), "/FlateDecode"), "cannot be decompressed"),
    "hole": (pdf_of(PACKED[:10] + bytes(20) + PACKED[30:], "/FlateDecode"), "is damaged"),
    "filter": (pdf_of(PACKED, "/FooDecode"), "cannot be decoded"),
    "string": (pdf_of(b"BT /F1 30 Tf 50 700 Td (Hello world Tj ET"), "cut off"),
    "inline": (pdf_of(b"BI /W 9 /H 9 /CS /G /BPC 8 ID 123"), "cut off"),
    "no image": (pdf_of(DRAW), "draws /Im0, which is missing"),
    "no stream": (pdf_of(WORDS).replace(b"/Contents 4 0 R", b"/Contents 9 0 R"), "is missing"),
    "jpeg": (pdf_of(DRAW, image=(bytes(1000), "/DCTDecode")), "JPEG image"),
    "jpeg head": (pdf_of(DRAW, image=(JPEG[:300], "/DCTDecode")), "JPEG image"),
    "jpeg 2000": (pdf_of(DRAW, image=(bytes(1000), "/JPXDecode")), "JPXDecode"),
    "jbig2": (pdf_of(DRAW, image=(bytes(1000), "/JBIG2Decode")), "JBIG2Decode"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), UNDRAWN.values(), ids=UNDRAWN)
def test_a_page_with_content_that_is_not_drawn_is_an_error_and_not_a_white_page(data, words):
    with pytest.raises(MediaError, match=rf"nothing is drawn on it although .*{words}.*pages="):
        read_pages(BytesSource(data, "paper"), POLICY)


WHITE = b"1 1 1 rg 0 0 595 842 re f"
EMPTY = {
    "no content": pdf_of(b""),
    "spaces": pdf_of(b" \n"),
    "comment": pdf_of(b"% nothing"),
    "no drawing": pdf_of(b"q 1 0 0 1 9 9 cm /Artifact BMC EMC Q"),
    "white box": pdf_of(WHITE),
    "white image": pdf_of(DRAW, image=(b"\xff" * 180_000, None)),
    "white inline image": pdf_of(b"q 99 0 0 99 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \xff EI Q"),
    "invisible text": pdf_of(b"BT 3 Tr /F1 30 Tf 50 700 Td (Hello) Tj ET"),
    "outside": pdf_of(b"BT /F1 30 Tf 5000 700 Td (Hello) Tj ET"),
    "compressed": pdf_of(zlib.compress(WHITE), "/FlateDecode"),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("data", EMPTY.values(), ids=EMPTY)
def test_an_empty_page_is_white(data):
    (page,) = read_pages(BytesSource(data, "paper"), POLICY)
    assert page.min() == 255


PACKED_LINES = zlib.compress(LINES)
PART = {
    "content": (pdf_of(PACKED_LINES[: len(PACKED_LINES) // 2], "/FlateDecode"), "stream is cut"),
    "jpeg": (pdf_of(DRAW, image=(JPEG[: len(JPEG) // 2], "/DCTDecode")), "JPEG image .* cut off"),
    "pixels": (pdf_of(DRAW, image=(PIXELS.tobytes()[:9000], None)), "image on it is cut off"),
    "packed": (pdf_of(DRAW, image=(zlib.compress(PIXELS)[:9000], "/FlateDecode")), "is cut off"),
    "short": (pdf_of(DRAW, image=(zlib.compress(PIXELS[:9]), "/FlateDecode")), "is cut off"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), PART.values(), ids=PART)
def test_a_page_that_is_drawn_in_part_is_flagged(data, words):
    with pytest.warns(UserWarning, match=f"paper: page 0: .*{words}.* may be missing"):
        (whole,) = read_pages(BytesSource(data, "paper"), POLICY)
    assert whole.min() < 128
    (page,) = stream_pages(BytesSource(data, "paper"), POLICY)
    assert np.array_equal(page.image, whole)
    assert page.damage


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "data",
    [pdf_of(WORDS), pdf_of(DRAW, image=(JPEG, "/DCTDecode")),
     pdf_of(DRAW, image=(JPEG + bytes(500), "/DCTDecode")),
     pdf_of(DRAW, image=(PIXELS.tobytes(), None)),
     pdf_of(DRAW, image=(zlib.compress(PIXELS), "/FlateDecode")),
     pdf_of(PACKED_LINES[:-4], "/FlateDecode")],
    ids=["text", "jpeg", "padded jpeg", "pixels", "packed", "no checksum"],
)  # fmt: skip
def test_a_whole_page_is_not_flagged(data):
    (page,) = stream_pages(BytesSource(data, "paper"), POLICY)
    assert page.damage is None
    assert page.image.min() < 128


INDEXED = "[/Indexed /DeviceRGB 15 <%s>]" % ("204060" * 16)
COLOURS = "[/DeviceN [/A /B /C /D /E] /DeviceGray << /FunctionType 4 /Domain [%s] /Range [0 1] >>]"
COLOURS %= "0 1 " * 5
DEPTHS = {
    "1": (1, "/DeviceGray", 25), "2": (2, "/DeviceGray", 50), "4": (4, "/DeviceGray", 100),
    "palette": (4, INDEXED, 100), "8": (8, "/DeviceGray", 200), "16": (16, "/DeviceGray", 400),
    "rgb 4": (4, "/DeviceRGB", 300), "rgb 16": (16, "/DeviceRGB", 1200),
    "cmyk": (8, "/DeviceCMYK", 800),
    **{f"5 colours of {bits}": (bits, COLOURS, 125 * bits) for bits in (1, 2, 4, 8, 16)},
}  # fmt: skip


@pytest.mark.parametrize("filter_", [None, "/FlateDecode"])
@pytest.mark.parametrize(("bits", "space", "row"), DEPTHS.values(), ids=DEPTHS)
def test_an_image_of_any_depth_is_flagged_only_if_it_is_cut_off(filter_, bits, space, row):
    """PDFium says 8 bits of a palette of 4 bits, and 24 of grey of 16."""
    pixels = np.random.default_rng(1).integers(0, 99, row * 300, np.uint8).tobytes()
    stored = pixels if filter_ is None else zlib.compress(pixels)
    whole = pdf_of(DRAW, image=(stored, filter_), bits=bits, space=space)
    (page,) = stream_pages(BytesSource(whole, "paper"), POLICY)
    assert page.damage is None
    cut = pdf_of(DRAW, image=(stored[: len(stored) * 2 // 5 - 9], filter_), bits=bits, space=space)
    (page,) = stream_pages(BytesSource(cut, "paper"), POLICY)
    assert "cut off" in (str(page.image) if page.damage is None else page.damage)


def test_a_damaged_form_and_a_damaged_page_take_no_other_along():
    pdf = pikepdf.new()
    add_page(pdf, WORDS)
    add_page(pdf, b"/Fm0 Do")
    form = pikepdf.Stream(pdf, b"")
    form.write(bytes(99), filter=pikepdf.Name.FlateDecode)
    form.Type, form.Subtype, form.BBox = pikepdf.Name.XObject, pikepdf.Name.Form, [0, 0, 595, 842]
    pdf.pages[1].Resources.XObject = pikepdf.Dictionary(Fm0=pdf.make_indirect(form))
    add_page(pdf, WORDS)
    first, second, third = stream_pages(BytesSource(saved(pdf), "paper"), POLICY)
    assert np.array_equal(first.image, third.image)
    assert (first.damage, third.damage) == (None, None)
    assert "nothing is drawn on it" in str(second.image)


def test_a_text_layer_tells_of_damage():
    (whole,) = stream_texts(BytesSource(pdf_of(WORDS), "a"), POLICY)
    assert (whole.text, whole.damage) == ("Hello world", None)
    (cut,) = stream_texts(BytesSource(PART["content"][0], "a"), POLICY)
    assert cut.text.startswith("Line 0")
    assert "cut off" in cut.damage
    (binary,) = stream_texts(BytesSource(UNDRAWN["binary"][0], "a"), POLICY)
    assert "no drawing operators" in binary.damage


def test_forms_that_share_their_resources_are_looked_at_once_each():
    """100 forms that name each other: 100 million ways through four levels of them."""
    pdf = pikepdf.new()
    add_page(pdf, WORDS + b"/F0 Do")
    objects = pikepdf.Dictionary()
    shared = pdf.make_indirect(pikepdf.Dictionary(XObject=objects))
    for number in range(100):
        form = pikepdf.Stream(pdf, b"0 0 9 9 re f")
        form.Type, form.Subtype = pikepdf.Name.XObject, pikepdf.Name.Form
        form.BBox, form.Resources = [0, 0, 99, 99], shared
        objects[f"/F{number}"] = pdf.make_indirect(form)
    shared.XObject = objects
    pdf.pages[0].Resources.XObject = objects
    (page,) = stream_pages(BytesSource(saved(pdf), "paper"), POLICY)
    assert (page.damage, page.image.min()) == (None, 0)


def tiff_strip(image, compression, tags=()):
    """The encoded rows of a TIFF of one strip."""
    file = io.BytesIO()
    image.save(file, "TIFF", compression=compression, tiffinfo={278: image.height, **dict(tags)})
    tags = Image.open(file).tag_v2
    return file.getvalue()[tags[273][0] :][: tags[279][0]]


def segment(number, kind, data, *, refers=b""):
    """A segment of JBIG2 (ITU-T T.88, 7.2)."""
    head = number.to_bytes(4, "big") + bytes([kind, len(refers) << 5]) + refers + b"\1"
    return head + len(data).to_bytes(4, "big") + data


BILEVEL = Image.fromarray(
    np.kron(np.random.default_rng(2).random((60, 40)) < 0.5, np.ones((5, 5))) > 0
)
JBIG2 = segment(0, 48, bytes(19)) + segment(1, 38, bytes(range(250))) + segment(2, 49, b"")
STREAMS = {
    "CCITTFaxDecode": (tiff_strip(BILEVEL, "group4"), 1, "/DeviceGray"),
    "JBIG2Decode": (JBIG2, 1, "/DeviceGray"),
    "LZWDecode": (tiff_strip(BILEVEL.convert("L"), "tiff_lzw"), 8, "/DeviceGray"),
    "JPXDecode": (encode(Image.fromarray(PIXELS), "JPEG2000"), 8, "/DeviceRGB"),
    "RunLengthDecode": (bytes([127, *range(128)]) * 1407 + b"\x80", 8, "/DeviceRGB"),
}
"""Encoded pixels of 200 x 300, their bits and colour space."""
PARAMETERS = {"CCITTFaxDecode": {"K": -1, "Columns": 200, "Rows": 300}}


def image_page(name, data, **parameters):
    """A page with black corners, so that it is never white, and an image."""
    _, bits, space = STREAMS[name]
    pdf = pikepdf.new()
    add_page(pdf, DRAW + b" 0 0 50 50 re f", image=(data, f"/{name}"), bits=bits, space=space)
    if parameters := parameters or PARAMETERS.get(name):
        image = pdf.pages[0].Resources.XObject.Im0
        image.DecodeParms = pikepdf.Dictionary(**parameters)
    (page,) = stream_pages(BytesSource(saved(pdf), "paper"), POLICY)
    return page


@pytest.mark.parametrize("name", STREAMS)
def test_an_image_whose_decoder_fills_missing_rows_is_flagged(name):
    data = STREAMS[name][0]
    assert image_page(name, data).damage is None
    assert image_page(name, data + b"\r\n").damage is None
    for part in (0.2, 0.5, 0.9):
        assert "cut off" in image_page(name, data[: round(len(data) * part)]).damage


def test_rows_without_end_marks_and_too_few_rows_are_whole():
    """The marks are optional (ISO 32000-1, 7.4.6), and `Height` may be larger."""
    data = STREAMS["CCITTFaxDecode"][0]
    assert not is_group4_cut(data, 200, 400)
    for end in range(1, 4):
        assert not is_group4_cut(data[:-end], 200, 299)


@pytest.mark.parametrize("options", [0, 1, 4], ids=["1-D", "2-D", "with fill bits"])
def test_rows_of_group_3_end_with_marks(options):
    data = tiff_strip(BILEVEL, "group3", {292: options})
    parameters = {"K": options & 1, "Columns": 200, "Rows": 300, "EndOfLine": True}
    assert not is_group3_cut(data, 300)
    assert not is_group3_cut(b"", 300)
    for part in (0.2, 0.5, 0.9):
        cut = data[: round(len(data) * part)]
        assert is_group3_cut(cut, 300)
        assert "cut off" in image_page("CCITTFaxDecode", cut, **parameters).damage
    assert image_page("CCITTFaxDecode", data, **parameters).damage is None


def test_content_of_lzw_ends_with_a_mark():
    text = Image.frombytes("L", (len(LINES), 1), LINES)
    whole = tiff_strip(text, "tiff_lzw")
    assert (
        next(iter(stream_pages(BytesSource(pdf_of(whole, "/LZWDecode"), "a"), POLICY))).damage
        is None
    )
    cut = pdf_of(whole[: len(whole) // 2], "/LZWDecode")
    (page,) = stream_pages(BytesSource(cut, "a"), POLICY)
    assert page.damage == "its content stream is cut off"


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("filter_", [None, "/FlateDecode", "/RunLengthDecode"])
def test_an_image_with_a_mask_by_colours_is_whole(filter_, bits):
    """PDFium says 32 bits, whatever the file has."""
    row = bytes([255] * (25 * bits))
    lengths = [len(row[at : at + 100]) for at in range(0, len(row), 100)]
    runs = b"".join(bytes([257 - length, 255]) for length in lengths)
    stored = {None: row * 300, "/FlateDecode": zlib.compress(row * 300)}.get(filter_, runs * 300)
    pdf = pikepdf.new()
    add_page(pdf, DRAW, image=(stored, filter_), bits=bits, space="/DeviceGray")
    image = pdf.pages[0].Resources.XObject.Im0
    image.Mask = pikepdf.Array([(1 << bits) - 1] * 2)
    (page,) = stream_pages(BytesSource(saved(pdf), "paper"), POLICY)
    assert page.damage is None
    assert page.image.min() == 255


def test_an_image_that_is_drawn_often_is_checked_once(monkeypatch):
    checked = []
    monkeypatch.setattr(pdf_damage, "_flate_damage", lambda *given: checked.append(given))
    image = (zlib.compress(PIXELS), "/FlateDecode")
    file = pypdfium2.PdfDocument(pdf_of(DRAW * 20, image=image))
    data = pdf_of(DRAW * 20, image=image)
    assert PdfInspector(data, None, 1).damage(0, file[0]) is None
    assert len(checked) == 1


def test_runs_past_the_largest_size_are_not_read():
    assert not is_run_length_cut(b"\x81\0" * 5000, [100, 300])
    assert is_run_length_cut(b"\x81\0", [100, 300])
