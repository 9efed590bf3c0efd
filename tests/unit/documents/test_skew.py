"""The angle of a page's lines."""

import numpy as np
import pytest
from drawn_pages import draw_page
from PIL import Image

from langchain_internvl.documents.skew import _scores, find_skew, level

LINES = ["The quick brown fox jumps over the lazy dog", "and runs away over the hill again"] * 9
PAGE = draw_page(*LINES, size=(900, 1100), font=34)


@pytest.mark.parametrize("angle", [-6.0, -2.5, -0.75, 1.0, 3.25, 7.0])
def test_skewed_pages_are_levelled(angle):
    askew = PAGE.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")
    found = find_skew(askew)
    assert found == pytest.approx(angle, abs=0.3)
    levelled = level(askew, found)
    assert find_skew(levelled) == 0.0
    assert all(new <= old for new, old in zip(levelled.size, askew.size, strict=True))


def test_scores_are_those_of_strips_that_are_rolled_one_by_one():
    chance = np.random.default_rng(5)
    strips = [chance.integers(0, 90, 61).astype(np.float32) for _ in range(7)]
    centres, angles = np.linspace(-200, 200, 7), np.arange(-8, 8.25, 0.25)
    for angle, score in zip(angles, _scores(strips, centres, angles), strict=True):
        slope = np.tan(np.radians(angle))
        rows = sum(
            np.roll(strip, round(slope * centre))
            for strip, centre in zip(strips, centres, strict=True)
        )
        assert score == (np.diff(rows) ** 2).sum()


def test_levelling_keeps_the_whole_page_in_place():
    page = Image.new("RGB", (300, 500), "white")
    marks = {(20, 30): "red", (280, 30): "blue", (20, 470): "lime", (150, 250): "black"}
    for (x, y), colour in marks.items():
        page.paste(colour, (x - 6, y - 6, x + 6, y + 6))
    askew = page.rotate(5, Image.Resampling.BICUBIC, expand=True, fillcolor="white")
    levelled = level(askew, 5)
    scale = min(levelled.width / askew.width, levelled.height / askew.height)
    assert 0.85 < scale <= 1
    reduced = [
        [round(one) for one in _centre(levelled, colour)]
        for colour in ((255, 0, 0), (0, 0, 255), (0, 255, 0), (0, 0, 0))
    ]
    red, blue, lime, black = reduced
    assert abs(red[1] - blue[1]) <= 1  # level again
    assert abs(red[0] - lime[0]) <= 1
    assert abs(black[0] - levelled.width / 2) <= 1
    assert abs(black[1] - levelled.height / 2) <= 1
    assert levelled.getpixel((0, 0)) == levelled.getpixel((1, levelled.height - 1)) == (255,) * 3


def _centre(image, colour):
    """Where the pixels of a colour are, on average."""
    near = np.abs(np.asarray(image).astype(int) - colour).sum(axis=2) < 60
    rows, columns = np.nonzero(near)
    return columns.mean(), rows.mean()


@pytest.mark.parametrize(
    "page",
    [
        PAGE,
        PAGE.rotate(0.3, Image.Resampling.BICUBIC, fillcolor="white"),
        Image.new("RGB", (900, 1100), "white"),
        Image.fromarray(np.random.default_rng(1).integers(0, 255, (600, 500, 3), np.uint8)),
        draw_page("x", size=(900, 1100)),
        Image.new("RGB", (30, 30), "white"),
    ],
    ids=["level", "nearly level", "empty", "noise", "one letter", "tiny"],
)
def test_what_needs_no_levelling(page):
    assert find_skew(page) == 0.0
    assert level(page, 0.0) is page
