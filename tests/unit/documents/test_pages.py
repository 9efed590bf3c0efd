"""The pages of files of every kind."""

import io

import numpy as np
import pikepdf
import pytest
from drawn_pages import draw_page, encode, scan_pdf, text_pdf
from golden import SCAN
from PIL import Image

from langchain_internvl import MediaPolicy
from langchain_internvl.documents.pages import PageOptions, pages_of
from langchain_internvl.documents.text_layer import failed_test
from langchain_internvl.errors import MediaError, RequestError
from langchain_internvl.media.pdf_text import PdfPageText, stream_texts
from langchain_internvl.media.sources import BytesSource, PathSource

POLICY = MediaPolicy()
PROSE = "The invoice of March is due in thirty days after the goods have been delivered.\n" * 5


def pages(data, **options):
    return list(pages_of(BytesSource(data, "a.bin"), POLICY, PageOptions(**options)))


def layer(text, share=0.0):
    return PdfPageText(0, 1, text, None, 595, 842, 0, share)


def test_a_good_text_layer_is_kept_and_its_page_not_rendered():
    first, second = pages(text_pdf(PROSE, PROSE))
    assert (first.number, second.number, first.total) == (0, 1, 2)
    assert (first.picture, first.failed) == (None, None)
    assert first.layer.text.startswith("The invoice of March is due")


def test_a_scan_is_rendered():
    (page,) = pages_of(PathSource(SCAN), POLICY, PageOptions())
    assert page.failed == "has_text"
    assert max(page.picture.size) == 1792
    assert page.layer.image_share > 0.9


def test_always_and_never():
    data = text_pdf(PROSE)
    assert pages(data, ocr="always")[0].picture.size == (1267, 1792)
    assert pages(scan_pdf(draw_page("x")), ocr="never")[0].picture is None


def test_resolution():
    assert pages(text_pdf(""), dpi=72)[0].picture.size == (595, 842)
    assert max(pages(text_pdf(""), long_side=500)[0].picture.size) == 500
    assert pages(text_pdf("", page_size=(200, 2000)))[0].picture.size == (896, 8960)
    assert pages(encode(draw_page(size=(2000, 1000))), long_side=500)[0].picture.size == (500, 250)


@pytest.mark.parametrize(
    "data",
    [text_pdf(PROSE, "", PROSE, ""),
     scan_pdf(*[draw_page(str(number)) for number in range(4)]),
     encode(draw_page("0"), "TIFF", save_all=True,
            append_images=[draw_page(str(number)) for number in (1, 2, 3)])],
    ids=["mixed pdf", "scans", "tiff"],
)  # fmt: skip
@pytest.mark.parametrize(("wanted", "numbers"), [("2-3", [1, 2]), ([3, 0], [3, 0]), (-1, [3])])
def test_requested_pages_come_in_their_order(data, wanted, numbers):
    found = pages(data, pages=wanted)
    assert [page.number for page in found] == numbers
    assert {page.total for page in found} == {4}


def test_pages_that_are_not_there():
    for data in (text_pdf(PROSE), encode(draw_page("x")), encode(draw_page("x"), "TIFF")):
        with pytest.raises(RequestError, match="no page 8, which is index 7"):
            pages(data, pages=7)


def test_encrypted_pdfs():
    security = pikepdf.Encryption(owner="o", user="secret")
    data = text_pdf(PROSE, encryption=security)
    with pytest.raises(MediaError, match="pass password="):
        pages(data)
    with pytest.raises(MediaError, match="password is wrong"):
        pages(data, password="no")
    assert pages(data, password="secret")[0].failed is None
    assert pages(data, password="secret", ocr="always")[0].picture is not None


def test_one_bit_fax_tiffs_and_deep_pages():
    fax = encode(draw_page("fax").convert("1"), "TIFF", compression="group4")
    assert pages(fax)[0].picture.mode == "RGB"
    deep = Image.fromarray(np.full((90, 80), 40000, np.uint16))
    data = encode(deep, "TIFF", save_all=True, append_images=[deep])
    assert [page.picture.getpixel((5, 5))[0] for page in pages(data)] == [156, 156]


def test_smaller_copies_in_a_tiff_are_no_pages():
    """A pyramid, as archives keep scans, and a thumbnail before the page."""
    page, other = draw_page("page"), draw_page("other")
    small = page.resize((62, 88))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    data = encode(page, "TIFF", save_all=True, append_images=[small, other])
    assert [(one.number, one.total, one.picture.size) for one in pages(data)] == [
        (0, 2, page.size), (1, 2, other.size),
    ]  # fmt: skip
    assert pages(data, pages="2")[0].picture.tobytes() == other.tobytes()
    other.encoderinfo = {"tiffinfo": {254: 1}}  # as some programs mark all pages but the first
    data = encode(page, "TIFF", save_all=True, append_images=[other, small])
    assert [one.picture.tobytes() for one in pages(data)] == [page.tobytes(), other.tobytes()]
    only = encode(page, "TIFF", tiffinfo={254: 1})
    assert [one.picture.size for one in pages(only)] == [page.size]


def test_files_that_are_nothing():
    for data in (b"", b"text", b"%PDF-1.7 broken", b"\x93NUMPY\x01\x00"):
        with pytest.raises(MediaError, match=r"a\.bin"):
            pages(data)
    empty = io.BytesIO()
    pikepdf.new().save(empty)
    with pytest.raises(MediaError, match="no pages"):
        pages(empty.getvalue())


@pytest.mark.parametrize(
    ("text", "share", "test"),
    [
        (PROSE, 0.0, None),
        (PROSE, 1.0, None),
        ("", 0.0, "has_text"),
        ("Page 3", 0.0, "has_text"),
        ("ACME-00017 Confidential", 1.0, "covers_scan"),
        ("\ue001\ue002\ue003\ue004" * 20 + "abcdefghijklm" * 20, 0.0, "is_decoded"),
        ("~|. :;'~ '|. - ~~ %$ x" * 20, 0.0, "is_prose"),
        ("Xbt kjdg sdfl qwrt plkm zxcv bnmq wrts dfgh jklp " * 5, 0.0, "has_words"),
        ("T h e i n v o i c e o f M a r c h " * 5, 0.0, "has_spaces"),
        ("Theinvoiceofmarchisdueinthirtydays " * 30, 0.0, "has_spaces"),
        ("1 204,50 3 880,10 12 000,00 7 15 %\n" * 12, 0.0, None),
        ("Счёт за март подлежит оплате в течение тридцати дней. " * 5, 0.0, None),
        (
            "Chapter one " + "." * 90 + " 3\nName " + "_" * 80 + "\nTotal" + " . " * 60 + "9",
            0.0,
            None,
        ),
        ("请于三十天内支付三月份的发票。" * 20, 1.0, None),
    ],
)
def test_text_layers_are_judged_by_named_tests(text, share, test):
    assert failed_test(layer(text, share)) == test


def drawn_pdf(content, *, page_size=(595, 842), inherited=None, image=None, **keys):
    """A PDF of a page with content, and an image `/I`, also as a form `/F` of one unit square."""
    name, dictionary = pikepdf.Name, pikepdf.Dictionary
    with pikepdf.open(io.BytesIO(text_pdf("", page_size=page_size))) as pdf:
        page = pdf.pages[0]
        if image is not None:
            drawn = pdf.make_stream(image.convert("L").tobytes())
            drawn.Type, drawn.Subtype = name.XObject, name.Image
            drawn.Width, drawn.Height = image.size
            drawn.ColorSpace, drawn.BitsPerComponent = name.DeviceGray, 8
            inner = pdf.make_stream(b"/I Do", Resources=dictionary(XObject=dictionary(I=drawn)))
            form = pdf.make_stream(b"/N Do", Resources=dictionary(XObject=dictionary(N=inner)))
            for one in (inner, form):
                one.Type, one.Subtype = name.XObject, name.Form
                one.BBox = pikepdf.Array([0, 0, 1, 1])
            page.Resources.XObject = dictionary(I=drawn, F=form)
        page.Contents = pdf.make_stream(content.encode())
        for key, value in keys.items():
            page.obj[f"/{key}"] = value
        if inherited is not None:
            del page.obj.MediaBox
            pdf.Root.Pages.MediaBox = inherited
        buffer = io.BytesIO()
        pdf.save(buffer)
    return buffer.getvalue()


STAMP = "BT /F1 9 Tf 60 60 Td (Received by the archive on Monday) Tj ET "


@pytest.mark.parametrize(
    "settings",
    [{"content": "q 595 0 0 842 50 50 cm /I Do Q", "page_size": (1600, 2400),
      "CropBox": [50, 50, 645, 892]},
     {"content": "q 595 0 0 842 0 0 cm /F Do Q"},
     {"content": "q 1190 0 0 1684 0 0 cm /I Do Q", "inherited": [0, 0, 1190, 1684]}],
    ids=["within a crop box", "in forms that are scaled", "on paper of an inherited size"],
)  # fmt: skip
def test_a_scan_with_a_stamp_is_a_scan_wherever_it_stands(settings):
    content = STAMP + settings.pop("content")
    settings = {key: pikepdf.Array(one) if isinstance(one, list) else one
                for key, one in settings.items()}  # fmt: skip
    (found,) = pages(drawn_pdf(content, image=draw_page("the letter"), **settings))
    assert found.failed == "covers_scan"
    assert found.layer.image_share > 0.95


def test_an_image_beyond_the_crop_box_covers_nothing():
    content = "q 300 0 0 842 0 0 cm /F Do Q"
    crop = pikepdf.Array([400, 0, 595, 842])
    (found,) = pages(drawn_pdf(content, image=draw_page("x"), CropBox=crop))
    assert found.layer.image_share == 0


def test_the_share_of_an_image_is_exact_to_half_a_per_cent():
    """Of formxobject.pdf, which has 49.9 %: a coarse grid made a scan of it."""
    content = "q 500 0 0 500 56.69 269.1 cm /F Do Q"
    (found,) = pages(drawn_pdf(content, image=draw_page("x")))
    assert found.layer.image_share == pytest.approx(500 * 500 / (595 * 842), abs=0.005)
    assert found.layer.image_share < 0.5


def lines_at(x, y, *lines):
    return f"BT /F1 12 Tf 14 TL {x} {y} Td " + "".join(f"({one}) ' " for one in lines) + "ET "


def test_text_beyond_the_paper_is_not_of_the_page():
    shown, beyond = "the invoice is due in thirty days", "notes for the printer"
    around = "".join(
        lines_at(*at, beyond) for at in ((700, 400), (50, 900), (50, -40), (-300, 400))
    )
    (found,) = pages(drawn_pdf(lines_at(50, 400, shown) + around))
    assert found.layer.text.strip() == shown
    (found,) = pages(drawn_pdf(lines_at(50, 400, shown, beyond)))
    assert found.layer.text.split("\n") == [shown, beyond]


def test_lines_come_in_order_whichever_way_they_run():
    """PDFium has those that run downwards in the reverse order."""
    lines = [f"line {number} of the table" for number in range(5)]
    matrices = ("1 0 0 1 0 0", "0 1 -1 0 590 0", "-1 0 0 -1 590 840", "0 -1 1 0 0 840")
    with pikepdf.new() as pdf:
        for matrix in matrices:
            content = f"q {matrix} cm {lines_at(50, 500, *lines)} Q"
            for rotate in (0, 90, 180, 270):
                with pikepdf.open(io.BytesIO(drawn_pdf(content, Rotate=rotate))) as one:
                    pdf.pages.extend(one.pages)
        buffer = io.BytesIO()
        pdf.save(buffer)
    found = pages(buffer.getvalue(), pages=[*range(16), *range(16)], ocr="never")
    assert [one.layer.text.split("\n") for one in found] == [lines] * 32
    assert [one.layer for one in found[:16]] == [one.layer for one in found[16:]]


def test_the_unit_of_a_page_counts():
    data = drawn_pdf(lines_at(50, 400, "a large plan"), UserUnit=2.5, page_size=(600, 400))
    (found,) = pages(data, ocr="always", dpi=72)
    assert (found.layer.width, found.layer.height) == (1500, 1000)
    assert found.picture.size == (1500, 1000)


@pytest.mark.parametrize("strips", [1, 2, 16])
def test_a_scan_in_strips_with_a_stamp_is_a_scan(strips):
    """Scanners cut pages into strips; a number that was stamped on is not its text."""
    page = draw_page("the letter")
    with pikepdf.open(io.BytesIO(text_pdf("ACME-00017 Confidential"))) as pdf:
        names, drawn = pikepdf.Dictionary(), b""
        for number in range(strips):
            edges = [round(page.height * one / strips) for one in (number, number + 1)]
            strip = page.crop((0, edges[0], page.width, edges[1])).convert("L")
            image = pdf.make_stream(strip.tobytes())
            image.Type, image.Subtype = pikepdf.Name.XObject, pikepdf.Name.Image
            image.Width, image.Height = strip.size
            image.ColorSpace, image.BitsPerComponent = pikepdf.Name.DeviceGray, 8
            names[f"/I{number}"] = image
            high = 842 / strips
            place = f"595 0 0 {high} 0 {842 - high * (number + 1)}"
            drawn += f"q {place} cm /I{number} Do Q ".encode()
        first = pdf.pages[0]
        first.Resources.XObject = names
        first.Contents = pdf.make_stream(drawn + first.Contents.read_bytes())
        buffer = io.BytesIO()
        pdf.save(buffer)
    (found,) = pages(buffer.getvalue())
    assert found.failed == "covers_scan"
    assert found.layer.image_share > 0.95


def test_words_that_are_broken_at_the_end_of_a_line():
    """PDFium has U+FFFE for the hyphen and the line end."""
    (page,) = pages(text_pdf("the house-\nkeeper of the well-known\ngreen house"))
    assert page.failed is None
    assert [line.strip() for line in page.layer.text.split("\n")] == [
        "the house-",
        "keeper of the well-known",
        "green house",
    ]


def test_facts_of_pages():
    with pikepdf.open(io.BytesIO(text_pdf(PROSE, PROSE, page_size=(842, 595)))) as pdf:
        pdf.Root.PageLabels = pikepdf.Dictionary(
            Nums=pikepdf.Array([0, pikepdf.Dictionary(S=pikepdf.Name.r)])
        )
        pdf.pages[1].Rotate = 90
        buffer = io.BytesIO()
        pdf.save(buffer)
    first, second = stream_texts(BytesSource(buffer.getvalue(), "a"), POLICY)
    assert (first.label, second.label, first.total) == ("i", "ii", 2)
    assert (first.width, first.height, first.rotation) == (842, 595, 0)
    assert (second.width, second.height, second.rotation) == (595, 842, 90)
    assert "\r" not in first.text


def test_memory_does_not_grow_with_pages():
    """Of a long file two rendered pages at most are there at a time."""
    pdf = text_pdf(*[""] * 130)
    number = -1
    for number, page in enumerate(pages_of(BytesSource(pdf, "a"), MediaPolicy(max_pages=130),
                                           PageOptions(long_side=60))):  # fmt: skip
        assert page.number == number
        assert max(page.picture.size) == 60
    assert number == 129
