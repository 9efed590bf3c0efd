"""Blank pages are told from pages with a little on them, by their pixels."""

import numpy as np
import pytest
from drawn_pages import draw_page
from PIL import Image, ImageDraw, ImageFilter

from langchain_internvl.documents.blank import is_blank

RANDOM = np.random.default_rng(7)
SIZE = (1240, 1754)


def with_noise(page, amount):
    noise = RANDOM.normal(0, amount, (page.height, page.width, 1))
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


def test_small_pictures_are_no_pages():
    assert not is_blank(Image.new("RGB", (40, 30), "white"))
