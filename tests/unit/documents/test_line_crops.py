"""A line of any length on a canvas of one tile, with letters large enough to read."""

import numpy as np
import pytest
from drawn_pages import draw_page
from PIL import Image

from langchain_internvl.documents.line_crops import show_line
from langchain_internvl.documents.text_lines import cut_lines, find_lines

WORDS = [
    "the",
    "tenant",
    "pays",
    "nine",
    "hundred",
    "euros",
    "for",
    "a",
    "house",
    "and",
    "the",
    "garden",
]


def line(count, font):
    text = " ".join(WORDS[number % len(WORDS)] for number in range(count))
    page = draw_page(text, size=(round(count * font * 4) + 200, 3 * font + 80), font=font)
    (one,) = cut_lines(page)
    return one.image


@pytest.mark.parametrize("font", [12, 30, 120])
@pytest.mark.parametrize(("count", "rows"), [(1, 1), (4, 1), (10, 2), (16, 4)])
def test_a_line_becomes_rows_of_readable_letters(count, rows, font):
    canvas = show_line(line(count, font))
    assert canvas.size == (448, 448)
    found = find_lines(canvas)
    assert rows <= len(found) <= rows + 1
    assert all(14 <= bottom - top <= 45 for _, top, _, bottom in found)
    assert all(left >= 8 and right <= 440 for left, _, right, _ in found)


def test_a_very_long_line_still_fits():
    found = find_lines(show_line(line(60, 30)))
    assert len(found) >= 8
    assert max(box[3] for box in found) <= 448


def test_rows_are_broken_between_words():
    image = line(10, 30)
    gaps = (np.asarray(image.convert("L")) < 128).any(axis=0)
    assert gaps.any()
    shown = show_line(image)
    ink = (np.asarray(shown.convert("L")) < 128).sum()
    # No letter is cut or shown twice: the ink is that of the line at the scale of the rows.
    scale = 40 / image.height
    whole = (np.asarray(image.convert("L")) < 128).sum() * scale**2
    assert ink == pytest.approx(whole, rel=0.1)


def test_lines_without_gaps_or_letters():
    for size in ((1, 1), (5000, 3), (3, 900)):
        assert show_line(Image.new("RGB", size, "white")).getextrema() == ((255, 255),) * 3
    solid = Image.new("RGB", (3000, 30), "white")
    solid.paste("black", (0, 8, 3000, 22))
    assert show_line(solid).size == (448, 448)
