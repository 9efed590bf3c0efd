"""The size of images on paper, and of their pages in searchable PDFs."""

import io

import pikepdf
import pytest
from drawn_pages import draw_page, encode, scripted, sure_reply
from PIL import Image

from langchain_internvl import InternVLLoader
from langchain_internvl.backends.base import Delta
from langchain_internvl.documents.pages import PageOptions, pages_of
from langchain_internvl.documents.searchable_pdf import make_searchable
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.print_size import print_size_of
from langchain_internvl.media.sources import BytesSource


@pytest.mark.parametrize(
    ("form", "mode"),
    [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "1"), ("JPEG", "CMYK"), ("TIFF", "I;16"),
     ("TIFF", "1"), ("BMP", "L")],
)  # fmt: skip
def test_both_resolutions_count(form, mode):
    assert print_size_of(encode(Image.new(mode, (1728, 1078)), form, dpi=(204, 98))) == (
        pytest.approx((1728 / 204, 11), rel=1e-3)
    )


def test_photographs_are_turned():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.new("RGB", (600, 400)), "JPEG", dpi=(200, 100), exif=exif)
    assert print_size_of(data) == (4, 3)


@pytest.mark.parametrize(
    ("size", "dpi"),
    [((2480, 3508), 72), ((40, 40), 300), ((2480, 3508), 1), ((100, 100), 0)],
)
def test_what_cannot_be_is_unknown(size, dpi):
    assert print_size_of(encode(Image.new("L", size), "TIFF", dpi=(dpi, dpi))) is None


@pytest.mark.parametrize("orientation", [1, 6, 8])
@pytest.mark.parametrize("form", ["JPEG", "TIFF"])
def test_turned_images_with_two_resolutions(form, orientation):
    exif = Image.Exif()
    exif[0x112] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (600, 300)).save(stream, form, dpi=(100, 150), exif=exif)
    expected = (6, 2) if orientation == 1 else (2, 6)
    assert print_size_of(stream.getvalue()) == expected
    (page,) = pages_of(BytesSource(stream.getvalue(), "scan"), MediaPolicy(), PageOptions())
    assert page.inches == expected  # also after the page was decoded
    assert page.picture.size == ((600, 300) if orientation == 1 else (300, 600))


def test_without_a_resolution_or_an_image_it_is_unknown():
    assert print_size_of(encode(Image.new("L", (900, 900)))) is None
    assert print_size_of(b"no image") is None
    assert print_size_of(encode(Image.new("L", (794, 1123)), dpi=(96, 96))) == (
        pytest.approx((8.27, 11.7), rel=1e-2)
    )


def boxes(data, turned=0):
    """Widths and heights of the pages of the searchable PDF, in inches.

    Args:
        data: The images.
        turned: Index of the orientation that the model takes for the right one.
    """

    def reply(request):
        if request.choices:
            weights = [-9.0] * 4
            weights[turned] = -0.1
            return [Delta(0, "", "stop", choice_logprobs=tuple(weights))]
        return sure_reply("text", 0.95)

    llm, _ = scripted(reply)
    pages = InternVLLoader(data, llm=llm, rotation="always").load()
    made = make_searchable(BytesSource(data, "a"), pages, MediaPolicy())
    with pikepdf.open(io.BytesIO(made)) as pdf:
        return [tuple(float(one) / 72 for one in page.mediabox[2:]) for page in pdf.pages]


def test_pages_of_a_pdf_have_the_size_of_the_paper():
    a4, a5 = draw_page("A4", size=(2481, 3507)), draw_page("A5", size=(874, 1240))
    unknown = draw_page("?", size=(300, 600))
    frames = [one.copy() for one in (a5, unknown)]
    frames[0].encoderinfo = {"dpi": (150, 150)}
    frames[1].encoderinfo = {"dpi": (1, 1)}
    data = encode(a4, "TIFF", save_all=True, append_images=frames, dpi=(300, 300))
    assert boxes(data) == [
        pytest.approx((8.27, 11.69), rel=1e-2),
        pytest.approx((5.83, 8.27), rel=1e-2),
        pytest.approx((2, 4)),
    ]
    large = encode(draw_page("A3", size=(4961, 7016)), dpi=(424, 424))  # is shrunk
    assert boxes(large) == [pytest.approx((11.7, 16.55), rel=1e-2)]


def test_a_fax_that_was_read_turned_has_its_proportions():
    fax = encode(draw_page("fax", size=(1728, 1078)), dpi=(204, 98))
    assert boxes(fax, turned=1) == [pytest.approx((11, 8.47), rel=1e-2)]
