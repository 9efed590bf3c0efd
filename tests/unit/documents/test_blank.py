"""Blank pages are told from pages with a little on them, by their pixels."""

import io

import numpy as np
import pytest
from drawn_pages import draw_page, encode
from font_caladea import Caladea
from font_manrope import Manrope
from font_source_serif_pro import SourceSerifPro
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from langchain_internvl.documents.blank import is_blank

SEED = 7
"""Each page draws its own numbers, whichever tests ran before."""
SIZE = (1240, 1754)


def with_noise(page, amount):
    noise = np.random.default_rng(SEED).normal(0, amount, (page.height, page.width, 1))
    return Image.fromarray((np.asarray(page) + noise).clip(0, 255).astype(np.uint8))


def gradient():
    values = np.linspace(255, 190, SIZE[0])[None, :, None].repeat(SIZE[1], 0).repeat(3, 2)
    return Image.fromarray(values.astype(np.uint8))


def edge_shadow():
    page = Image.new("RGB", SIZE, "white")
    ImageDraw.Draw(page).rectangle((0, 0, 25, SIZE[1]), fill="black")
    return page


@pytest.mark.parametrize(
    "page",
    [
        Image.new("RGB", SIZE, "white"),
        Image.new("RGB", SIZE, (244, 236, 210)),
        with_noise(Image.new("RGB", SIZE, (235, 235, 235)), 12),
        gradient(),
        edge_shadow(),
    ],
    ids=["white", "yellowed", "grain", "uneven light", "shadow of the lid"],
)
def test_empty_paper(page):
    assert is_blank(page)


@pytest.mark.parametrize(
    "page",
    [
        draw_page("7", size=SIZE, font=30),
        draw_page("", "", "iv", size=SIZE, font=14),
        draw_page("", "", "1", size=SIZE, font=14),
        draw_page("Draft", size=SIZE, font=26, colour=(150, 150, 150)),
        draw_page("Paid", size=SIZE, font=40, colour=(200, 60, 60), ground=(240, 235, 220)),
        with_noise(draw_page("A line", size=SIZE), 12),
        draw_page("in bleed", size=SIZE, font=36).filter(ImageFilter.GaussianBlur(2)),
        Image.new("RGB", SIZE, (20, 20, 20)),
        Image.new("RGB", SIZE, (200, 40, 40)),
    ],
    ids=[
        "digit",
        "page number in 8 pt",
        "in 7 pt",
        "grey",
        "stamp",
        "grain",
        "blurred",
        "dark",
        "coloured",
    ],
)
def test_pages_with_something_on_them(page):
    assert not is_blank(page)


def grain(kind, amount):
    """Grain of a standard deviation of so many levels."""
    chance = np.random.default_rng(SEED)
    shape = (SIZE[1], SIZE[0], 3 if kind == "coloured" else 1)
    if kind == "even":
        return chance.uniform(-1, 1, shape) * amount * 3**0.5
    noise = chance.normal(0, 1, shape)
    if kind == "blurred":
        pixels = Image.fromarray((noise[..., 0] * 30 + 128).clip(0, 255).astype(np.uint8))
        noise = np.asarray(pixels.filter(ImageFilter.GaussianBlur(0.8)), float)[..., None] - 128
    if kind == "cloudy":
        clouds = Image.fromarray(chance.normal(0, 0.3, (73, 52)).astype(np.float32))
        noise = noise + np.asarray(clouds.resize(SIZE, Image.Resampling.BICUBIC))[..., None]
    return noise / noise.std() * amount


def grainy(kind, amount, *lines, jpeg=None, **drawn):
    """A grey page with lines of text in grain."""
    page = draw_page(*lines, size=SIZE, ground=(200, 200, 200), **drawn)
    noisy = (np.asarray(page) + grain(kind, amount)).clip(0, 255).astype(np.uint8)
    if jpeg is None:
        return Image.fromarray(noisy)
    return Image.open(io.BytesIO(encode(Image.fromarray(noisy), "JPEG", quality=jpeg)))


KINDS = ("fine", "coloured", "even", "blurred", "cloudy")
LINES = ["The rent is paid before the third day of each month"] * 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("amount", "jpeg"), [(12, None), (25, 40), (40, None), (40, 40)])
def test_empty_paper_in_much_grain(kind, amount, jpeg):
    assert is_blank(grainy(kind, amount, jpeg=jpeg))


def test_a_fold_in_grain_is_not_ink():
    pixels = np.asarray(grainy("fine", 12)).astype(int)
    pixels[870:876] -= 28
    pixels[:, :20] = 15
    assert is_blank(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("amount", "font", "level", "jpeg"),
    [(25, 24, 120, None), (40, 22, 20, None), (40, 24, 80, None), (40, 24, 80, 40)],
)
def test_faint_print_in_much_grain(kind, amount, font, level, jpeg):
    page = grainy(kind, amount, *LINES, font=font, colour=(level,) * 3, jpeg=jpeg)
    assert not is_blank(page)


@pytest.mark.parametrize("lines", [LINES, LINES[:1]], ids=["a page", "a line"])
@pytest.mark.parametrize(("contrast", "jpeg"), [(75, None), (75, 40), (100, None)])
def test_fainter_lines_in_blurred_grain(lines, contrast, jpeg):
    level = 200 - contrast
    assert not is_blank(grainy("blurred", 40, *lines, font=24, colour=(level,) * 3, jpeg=jpeg))


@pytest.mark.parametrize("edges", [(0, 870, SIZE[0], 870), (600, 0, 600, SIZE[1])])
@pytest.mark.parametrize(("kind", "amount"), [("blurred", 40), ("fine", 25)])
def test_folds_in_much_grain_are_not_ink(edges, kind, amount):
    page = Image.new("RGB", SIZE, (200, 200, 200))
    ImageDraw.Draw(page).line(edges, (172, 172, 172), 6)
    noisy = (np.asarray(page) + grain(kind, amount)).clip(0, 255).astype(np.uint8)
    assert is_blank(Image.fromarray(noisy))


@pytest.mark.parametrize("level", [200, 215])
@pytest.mark.parametrize(("depth", "width"), [(25, 17), (35, 7)])
def test_soft_folds_in_grain_that_is_cut_off_at_white_are_not_ink(level, depth, width):
    """In the fold less of the grain is cut off, so that the levels differ more, as in text."""
    rows = np.arange(SIZE[1])[:, None, None] - SIZE[1] / 2
    fold = depth * np.exp(-((rows / width) ** 2))
    noise = np.random.default_rng(1).normal(0, 50, (SIZE[1], SIZE[0], 1))
    noisy = np.repeat((level - fold + noise).clip(0, 255), 3, axis=2).astype(np.uint8)
    assert is_blank(Image.fromarray(noisy))


@pytest.mark.parametrize("kind", ["fine", "coloured", "even", "cloudy"])
@pytest.mark.parametrize("text", ["Received 12 May", "4711"])
def test_a_word_in_much_grain(kind, text):
    assert not is_blank(grainy(kind, 40, text, font=32, colour=(60, 60, 60)))


@pytest.mark.parametrize("font", [Caladea, Manrope, SourceSerifPro])
def test_fonts_in_much_grain(font):
    page = Image.new("RGB", SIZE, (200, 200, 200))
    face = ImageFont.truetype(font, 22)
    ImageDraw.Draw(page).text((100, 100), "\n".join(LINES), (90, 90, 90), face)
    noisy = np.asarray(page) + grain("fine", 40)
    assert not is_blank(Image.fromarray(noisy.clip(0, 255).astype(np.uint8)))


def test_small_pictures_are_no_pages():
    assert not is_blank(Image.new("RGB", (40, 30), "white"))
