"""The lines of a page are found on its pixels, whatever the paper."""

import math

import numpy as np
import pypdfium2
import pytest
from font_source_sans_pro import SourceSansProSemibold
from golden import DATA
from PIL import Image, ImageDraw, ImageFont, ImageOps

from langchain_internvl.documents.text_lines import cut_lines, find_lines
from langchain_internvl.grounding import Box

TEXT = "The tenant pays the rent of nine hundred euros before the third day of each month"


def draw(*, left=(80,), count=12, font=28, size=(900, 1270), width=38, pitch=1.5, ink=0, paper=255):
    """A page in grey, and the boxes of its lines, column by column."""
    page = Image.new("L", size, paper)
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(SourceSansProSemibold, font)
    boxes = []
    for x in left:
        for number in range(count):
            text = " ".join((3 * f"{TEXT} ").split()[number % 7 :])[:width].strip()
            place = (x, 90 + round(number * font * pitch))
            pen.text(place, text, ink, face)
            boxes.append(pen.textbbox(place, text, face))
    return page, boxes


def check(page, boxes, least=0.5):
    found = find_lines(page.convert("RGB"))
    assert len(found) == len(boxes)
    for one, right in zip(found, boxes, strict=True):
        assert Box.from_space(one, "pixel", page.size).iou(
            Box.from_space(right, "pixel", page.size)
        ) >= least, (one, right)  # fmt: skip
    return found


def noisy(page, deviation):
    pixels = 60 + np.asarray(page) * (140 / 255)
    pixels = pixels + np.random.default_rng(0).normal(0, deviation, pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def speckled(page):
    pixels, rng = np.asarray(page).copy(), np.random.default_rng(0)
    chance = rng.random(pixels.shape)
    pixels[chance < 0.01], pixels[chance > 0.99] = 0, 255
    for _ in range(200):
        x, y, side = rng.integers(0, 890), rng.integers(0, 1260), rng.integers(1, 6)
        pixels[y : y + side, x : x + side] = 0
    return Image.fromarray(pixels)


def shadowed(page):
    light = np.linspace(110, 255, page.width).astype(np.uint8)
    return Image.fromarray(np.minimum(np.asarray(page), light[None]))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda page: page, id="plain"),
        pytest.param(ImageOps.invert, id="inverted"),
        pytest.param(lambda page: noisy(page, 20), id="a grey scan with grain"),
        pytest.param(lambda page: ImageOps.invert(noisy(page, 20)), id="its negative"),
        pytest.param(lambda page: noisy(page, 40), id="much grain"),
        pytest.param(lambda page: ImageOps.invert(noisy(page, 40)), id="much grain, its negative"),
        pytest.param(shadowed, id="a shadow"),
        pytest.param(lambda page: page.point(lambda value: 255 * (value > 128)), id="bilevel"),
    ],
)
def test_lines_on_all_kinds_of_paper(change):
    page, boxes = draw()
    check(change(page), boxes)


@pytest.mark.parametrize(("ink", "deviation"), [(55, 14), (55, 25), (90, 20)])
def test_lines_of_faint_print_in_grain(ink, deviation):
    page, boxes = draw(ink=ink)
    check(noisy(page, deviation), boxes)


def test_specks_are_not_lines_though_some_are_as_large_as_dots():
    page, boxes = draw()
    check(speckled(page), boxes, least=0.4)


@pytest.mark.parametrize(
    "drawn",
    [
        pytest.param({"font": 10, "count": 30, "width": 90}, id="small letters"),
        pytest.param({"font": 90, "count": 6, "width": 14}, id="large letters"),
        pytest.param({"pitch": 1.0}, id="lines that touch"),
        pytest.param({"pitch": 5, "count": 7}, id="large gaps"),
        pytest.param({"ink": 170, "paper": 240}, id="faint"),
        pytest.param({"left": (50, 470), "width": 26, "count": 20}, id="two columns"),
        pytest.param({"size": (10_000, 7_000), "font": 140, "count": 20}, id="10,000 pixels"),
        pytest.param({"size": (700, 9_000), "count": 200, "pitch": 1.5}, id="a scroll"),
        pytest.param({"size": (448, 448), "count": 1, "width": 6}, id="a word"),
    ],
)
def test_lines_of_all_kinds_of_layout(drawn):
    check(*draw(**drawn))


@pytest.mark.parametrize(
    ("paper", "ink"),
    [
        pytest.param((255, 255, 255), (255, 230, 60), id="yellow on white"),
        pytest.param((255, 240, 0), (200, 0, 20), id="red on yellow"),
        pytest.param((0, 0, 90), (230, 220, 40), id="yellow on blue"),
        pytest.param((103, 158, 42), (250, 69, 99), id="red on green, as light"),
        pytest.param((118, 48, 18), (97, 43, 180), id="purple on brown, as dark"),
    ],
)
def test_coloured_ink_on_coloured_paper(paper, ink):
    page, boxes = draw()
    check(ImageOps.colorize(page, black=ink, white=paper), boxes)


def test_a_little_text_on_turned_tinted_paper():
    page, _ = draw(count=2, size=(900, 1270), width=12)
    tinted = ImageOps.colorize(page, black="black", white=(245, 222, 240))
    found = find_lines(tinted.rotate(4, fillcolor="white"))  # its corners are no ink
    assert len(found) == 2


@pytest.mark.parametrize("angle", [0.3, 1, -3, 6])
def test_boxes_of_skewed_lines_are_on_the_page_as_it_is(angle):
    page, boxes = draw()
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    middle = (page.width / 2, page.height / 2)

    def turned(box):
        across = [(x - middle[0], y - middle[1]) for x in box[::2] for y in box[1::2]]
        places = [(x * cosine + y * sine, y * cosine - x * sine) for x, y in across]
        xs, ys = zip(*places, strict=True)
        return (min(xs) + middle[0], min(ys) + middle[1], max(xs) + middle[0], max(ys) + middle[1])

    skewed = page.rotate(angle, Image.Resampling.BICUBIC, fillcolor=255)
    check(skewed, [turned(box) for box in boxes])


def test_rules_are_not_ink_and_cells_are_lines():
    page, boxes = draw(left=(80, 370, 640), width=12, pitch=2)
    pen = ImageDraw.Draw(page)
    for row in range(13):
        pen.line((60, 84 + 56 * row, 860, 84 + 56 * row), 0, 2)
    for x in (60, 355, 625, 860):
        pen.line((x, 84, x, 84 + 12 * 56), 0, 3)
    check(page, boxes)


def test_letters_in_dark_and_in_shaded_boxes():
    page, boxes = draw(count=6)
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(SourceSansProSemibold, 30)
    for top, box, ink in ((500, 0, 255), (600, 170, 0)):
        pen.rectangle((60, top, 800, top + 60), box)
        pen.text((90, top + 10), "Total of the year", ink, face)
        boxes.append(pen.textbbox((90, top + 10), "Total of the year", face))
    check(page, boxes)
    for line in cut_lines(page)[-2:]:  # both are shown as dark on light
        assert np.median(np.asarray(line.image.convert("L"))) > 128


def test_a_heading_is_read_before_its_columns_and_beside_a_dark_picture():
    page, boxes = draw(left=(50, 470), width=26)
    pen, face = ImageDraw.Draw(page), ImageFont.truetype(SourceSansProSemibold, 50)
    pen.text((200, 10), "A heading over both", 0, face)
    pen.rectangle((0, 640, 899, 1269), 20)
    check(page, [pen.textbbox((200, 10), "A heading over both", face), *boxes])


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(Image.new("RGB", (900, 1270), "white"), id="blank"),
        pytest.param(Image.new("RGB", (900, 1270), "black"), id="black"),
        pytest.param(Image.new("RGB", (1, 1)), id="a pixel"),
        pytest.param(
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (600, 500), np.uint8)),
            id="noise",
        ),
        pytest.param(Image.linear_gradient("L"), id="a gradient"),
    ],
)
def test_pages_without_text_have_no_lines(page):
    assert find_lines(page) == []


def test_a_real_scan_with_a_drawing():
    with pypdfium2.PdfDocument(DATA / "documents" / "c03-29.pdf") as document:
        page = document[0].render(scale=150 / 72).to_pil()
    lines = find_lines(page)
    assert len(lines) < 80
    wide = [box for box in lines if box[2] - box[0] > 700]
    assert len(wide) >= 8  # of the ten that are as wide as the page
    assert all(12 < box[3] - box[1] < 40 for box in wide)
    beside = [box for box in lines if box[0] > 330 and 240 < box[1] < 680]
    assert len(beside) >= 16
