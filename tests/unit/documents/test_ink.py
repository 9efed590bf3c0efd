"""Ink and paper: which is which, and what of the ink is letters."""

import numpy as np
import pytest
from drawn_pages import draw_page
from PIL import Image, ImageDraw, ImageOps

from langchain_internvl.documents.ink import find_ink, letter_height, polarities

PAGE = draw_page("Some words", "and more of them", size=(400, 300))


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        (PAGE, (False,)),
        (ImageOps.invert(PAGE), (True,)),
        (PAGE.point(lambda value: 100 + value // 4), (False,)),  # dark paper, darker ink
        (PAGE.point(lambda value: 200 - value // 4), (True,)),  # light paper, lighter ink
        (Image.new("RGB", (99, 99), "white"), (False,)),
        (Image.new("RGB", (99, 99), "black"), (True,)),
    ],
)
def test_the_rarer_levels_are_ink(page, expected):
    assert polarities(page) == expected


def test_a_half_dark_page_may_be_either():
    page = PAGE.copy()
    ImageDraw.Draw(page).rectangle((0, 150, 399, 299), "black")
    assert polarities(page) == (False, True)


def test_rules_are_removed_and_letters_stay():
    page = PAGE.convert("L")
    without = find_ink(np.asarray(page))
    ImageDraw.Draw(page).line((10, 200, 390, 200), 0, 3)
    ImageDraw.Draw(page).line((20, 10, 20, 290), 0, 3)
    ink = find_ink(np.asarray(page))
    assert np.array_equal(ink.mask, without.mask)
    assert letter_height(ink.shapes) == letter_height(without.shapes) == pytest.approx(16, abs=5)


def test_an_image_without_ink_has_no_letters():
    ink = find_ink(np.full((80, 90), 255, np.uint8))
    assert (ink.mask.any(), ink.boxes, letter_height(ink.shapes)) == (False, [], 0.0)


def test_flat_shapes_alone_are_no_dark_boxes():
    for height in range(1, 12):
        grey = np.full((200, 300), 255, np.uint8)
        grey[100 : 100 + height, 50:90] = 0
        ink = find_ink(grey)
        assert (ink.mask[100 : 100 + height, 50:90].all(), ink.boxes) == (True, [])
