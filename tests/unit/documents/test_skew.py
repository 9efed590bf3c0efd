"""The angle of a page's lines."""

import numpy as np
import pytest
from drawn_pages import draw_page
from PIL import Image

from langchain_internvl.documents.skew import find_skew, level

LINES = ["The quick brown fox jumps over the lazy dog", "and runs away over the hill again"] * 9
PAGE = draw_page(*LINES, size=(900, 1100), font=34)


@pytest.mark.parametrize("angle", [-6.0, -2.5, -0.75, 1.0, 3.25, 7.0])
def test_skewed_pages_are_levelled(angle):
    askew = PAGE.rotate(angle, Image.Resampling.BICUBIC, fillcolor="white")
    found = find_skew(askew)
    assert found == pytest.approx(angle, abs=0.3)
    assert find_skew(level(askew, found)) == 0.0


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
