"""Page images of every mode become RGB with dark ink on light paper."""

import io

import numpy as np
import pytest
from drawn_pages import draw_page, encode
from PIL import Image

from langchain_internvl import MediaPolicy
from langchain_internvl.documents.page_image import (
    fit_size,
    open_page,
    page_from_array,
    shrink,
)
from langchain_internvl.errors import MediaError, MediaTooLargeError, UnsupportedMediaError

POLICY = MediaPolicy()
PAGE = draw_page("Ink on paper", size=(300, 200))


def darkness(page):
    """Darkest ink and lightest paper of a page, in steps of 8 bits."""
    grey = np.asarray(page.convert("L"))
    return int(grey.min()), int(grey.max())


def deep(page):
    """16-bit grey, as scanners make it: paper at 40,000 and ink at 5,000."""
    grey = np.asarray(page.convert("L")).astype(np.float64) / 255
    return (5000 + grey * 35000).astype(np.uint16)


@pytest.mark.parametrize("format_", ["PNG", "TIFF"])
def test_deep_grey_is_scaled_not_clipped(format_):
    page = open_page(encode(Image.fromarray(deep(PAGE)), format_), "a", POLICY)
    ink, paper = darkness(page)
    assert page.mode == "RGB"
    assert ink <= 5000 / 256 + 1
    assert paper == 40000 // 256


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_put_on_white(mode):
    page = draw_page("Black on nothing", size=(300, 200), ground=(0, 0, 0, 0), mode="RGBA")
    found = open_page(encode(page.convert(mode)), "a", POLICY)
    assert darkness(found) == (0, 255)
    assert found.getpixel((299, 199)) == (255, 255, 255)


def test_a_transparent_palette_is_put_on_white():
    page = Image.new("P", (100, 80), 0)
    page.putpalette([0, 0, 0, 10, 10, 10])
    page.paste(1, (20, 20, 40, 40))
    found = open_page(encode(page, transparency=0), "a", POLICY)
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert found.getpixel((30, 30)) == (10, 10, 10)


@pytest.mark.parametrize(
    ("mode", "format_", "options"),
    [("1", "PNG", {}), ("1", "TIFF", {"compression": "group4"}), ("L", "PNG", {}),
     ("CMYK", "JPEG", {"quality": 95}), ("CMYK", "TIFF", {}), ("P", "GIF", {}),
     ("RGB", "WEBP", {"lossless": True})],
)  # fmt: skip
def test_other_modes(mode, format_, options):
    ink, paper = darkness(open_page(encode(PAGE.convert(mode), format_, **options), "a", POLICY))
    assert (ink < 40, paper > 240) == (True, True)


def test_photographs_are_turned_as_their_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    for page in (PAGE, Image.fromarray(deep(PAGE))):
        found = open_page(encode(page, exif=exif), "a", POLICY)
        assert found.size == (200, 300)


@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_arrays(channels):
    values = np.full((30, 40, channels) if channels else (30, 40), 255, np.uint8)
    values[:10] = 0
    if channels in {2, 4}:
        values[:, :, -1] = 255
        values[20:, :, :-1], values[20:, :, -1] = 0, 0  # nothing, which is white paper
    page = page_from_array(values, "a", POLICY)
    assert (page.mode, page.size) == ("RGB", (40, 30))
    assert (page.getpixel((5, 5)), page.getpixel((5, 25))) == ((0, 0, 0), (255, 255, 255))


def test_other_arrays_are_refused():
    for values in (np.zeros((2, 2)), np.zeros((2, 2, 5), np.uint8), np.zeros(3, np.uint8)):
        with pytest.raises(UnsupportedMediaError):
            page_from_array(values, "a", POLICY)
    with pytest.raises(MediaError, match="no pixels"):
        page_from_array(np.zeros((0, 4), np.uint8), "a", POLICY)


def test_broken_and_large_files():
    data = encode(Image.fromarray(deep(PAGE)))
    with pytest.raises(MediaError, match="a: "):
        open_page(data[: len(data) // 2], "a", POLICY)
    with pytest.raises(MediaTooLargeError, match="max_pixels=1000"):
        open_page(data, "a", MediaPolicy(max_pixels=1000))
    with pytest.raises(UnsupportedMediaError):
        open_page(b"no image", "a", POLICY)


def test_the_size_at_which_pages_are_read():
    assert fit_size(595, 842) == (1266, 1792)
    assert fit_size(842, 595) == (1792, 1266)
    assert fit_size(800, 8000) == (896, 8960)  # a receipt keeps its letters
    assert max(fit_size(1, 1_000_000)) == 16 * 1792  # and a line is no page
    assert shrink(Image.new("RGB", (2480, 3508))).size == (1267, 1792)
    assert shrink(Image.new("RGB", (800, 8000))).size == (800, 8000)
    assert shrink(Image.new("RGB", (600, 800))).size == (600, 800)  # nothing is enlarged
    assert shrink(Image.new("RGB", (10_000, 10_000))).size == (1398, 1398)


def test_heif_is_read_where_a_reader_is_registered(monkeypatch):
    class Heif(Image.Image):
        """Stands for the reader of pillow-heif."""

    def reader(file, name):
        page = Image.open(io.BytesIO(file.read()[16:]))
        page.format = "HEIF"
        return page

    data = b"\0\0\0\x18ftypheic\0\0\0\0" + encode(PAGE)
    with pytest.raises(UnsupportedMediaError):
        open_page(data, "a", POLICY)
    Image.init()
    monkeypatch.setitem(Image.OPEN, "HEIF", (reader, lambda head: head[4:12] == b"ftypheic"))
    monkeypatch.setattr(Image, "ID", [*Image.ID, "HEIF"])
    assert open_page(data, "a", POLICY).size == (300, 200)
