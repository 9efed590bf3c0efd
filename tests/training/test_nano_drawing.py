"""Pictures of text and shapes are what is said of them."""

import random
import re
from collections import Counter
from itertools import pairwise
from statistics import median

import numpy as np
import pytest
from nano_training import words
from nano_training.fonts import FOLDER, load_font, new_fonts, printed_fonts
from nano_training.held_out import COLOURS, SHAPES
from nano_training.lists import (
    GRIDS,
    LINES,
    MOST_TILES,
    SIZES,
    Line,
    blank_sample,
    draw_list,
    found,
)
from nano_training.mixture import KINDS
from nano_training.pages import Print, draw_page, echoed, page_sample
from nano_training.scenes import described_sample, draw_scene, ground_answer, questions
from nano_training.sizes import TILE
from nano_training.things import Thing
from nano_training.words import WRITTEN

from langchain_internvl.media.tiling import choose_grid

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", sorted({*printed_fonts(), *new_fonts()}))
def test_fonts_are_there_and_differ(name):
    assert 100 < load_font(name, 40).getlength("Hamburgefonts") < 500


def test_fonts_that_are_kept_here_say_whose_they_are():
    """The table of the folder has every family, and each font has every letter that is written."""
    files = {path.name for path in FOLDER.glob("*.woff2")}
    table = (FOLDER / "README.md").read_text("utf-8")
    listed = re.findall(r"^\| ([a-z-]+) \| [\d.]+ \| (\d) \| Copyright", table, re.MULTILINE)
    assert {family: int(count) for family, count in listed} == Counter(
        name.rsplit("-", 2)[0] for name in files
    )
    assert files <= set(printed_fonts())
    for name in sorted(files):
        font = load_font(name, 40)
        absent = bytes(font.getmask("\N{CJK UNIFIED IDEOGRAPH-4E2D}"))
        assert all(bytes(font.getmask(letter)) != absent for letter in WRITTEN), name
        # A zero that is as high as an o cannot be told from it.
        zero, small = font.getbbox("0"), font.getbbox("o")
        assert zero[3] - zero[1] > 1.1 * (small[3] - small[1]), name


def test_wrong_letters_are_as_many_as_the_right_ones_and_of_half_the_texts():
    rng = random.Random(6)
    text = "Total 12.50\nNo dogs, PLEASE"
    wrong = [words.misread(rng, text) for _ in range(400)]
    assert all(len(one) == len(text) and one.split("\n")[0][5] == " " for one in wrong)
    shares = [sum(map(str.__ne__, one, text)) / len(text) for one in wrong]
    assert 0.4 < sum(one == text for one in wrong) / 400 < 0.65
    assert 0.02 < sum(shares) / 400 < 0.05


def test_pages_repeat_words_three_times_of_ten():
    rng = random.Random(7)
    style = Print((10, 10), (20, 20))
    repeats = 0
    for _ in range(60):
        writer = echoed(rng, style).writer
        said = [word for _ in range(10) for word in writer(rng).lower().split()]
        repeats += max(Counter(said).values()) >= 4
    assert 8 <= repeats <= 30
    assert echoed(rng, Print((1, 2), (20, 20), words.new_line)).writer is words.new_line


def test_pages_hold_what_they_say():
    """A line that is said is drawn, within the picture, where ink differs from paper."""
    rng = random.Random(1)
    for width, height in ((448, 448), (56, 56), (112, 56), (896, 448), (90, 64)):
        for style in (Print((1, 4), (20, 48)), Print((1, 2), (20, 30), one_font=True)):
            picture, text, letters = draw_page(rng, width, height, style)
            assert picture.size == (width, height)
            assert text
            assert all(line == line.strip() and line for line in text.split("\n"))
            assert np.asarray(picture).std() > 1
            assert [one.letter for one in letters] == list("".join(text.split()))
            assert all(0 < one.x < width and 0 < one.y < height for one in letters)


def test_letters_of_stretched_pages_are_where_they_say():
    """Around the middle of each letter there is ink, whatever was stretched."""
    rng = random.Random(4)
    style = Print((4, 12), (20, 44), one_font=True)
    sizes = set()
    for _ in range(40):
        sample = page_sample(rng, 448, 448, style)
        picture = np.asarray(sample.pictures[0]).astype(int)
        assert picture.shape == (448, 448, 3)
        assert "".join(one.letter for one in sample.letters[0]) == "".join(
            sample.questions[0].answer.split()
        )
        is_ink = np.abs(picture - picture[-1, -1]).sum(-1) > 60
        rows = np.nonzero(is_ink.any(1))[0]
        sizes.add(int(rows[-1] - rows[0]))
        for one in sample.letters[0]:
            x, y = round(one.x), round(one.y)
            assert is_ink[max(0, y - 24) : y + 24, max(0, x - 6) : x + 6].any(), one
    assert len(sizes) > 20


def test_pages_of_short_lines_hold_their_lines_where_they_say():
    """All ink is in the boxes, which it touches, and no two lines are alike or touch."""
    rng = random.Random(2)
    for _ in range(12):
        columns, rows = rng.choice(GRIDS)
        width, height = columns * TILE, rows * TILE
        assert 6 <= columns * rows <= 12
        assert choose_grid(width, height, 1, MOST_TILES) == (columns, rows)
        picture, lines = draw_list(rng, width, height, Print(LINES, SIZES))
        assert LINES[0] <= len(lines) <= LINES[1]
        assert len({line.text for line in lines}) == len(lines)
        pixels = np.asarray(picture).astype(int)
        is_ink = np.abs(pixels - pixels[0, 0]).sum(-1) > 0
        for line in lines:
            left, top, right, bottom = line.box
            inside = is_ink[top:bottom, left:right]
            assert inside.any(0)[[0, -1]].all()
            assert inside.any(1)[[0, -1]].all()
            assert all(left - 4 < one.x < right + 4 for one in line.letters)  # "1" leans aside
            assert all(top <= one.y <= bottom for one in line.letters)
            is_ink[top:bottom, left:right] = False
        assert not is_ink.any()
        tops = [line.box[1] for line in lines]
        bottoms = [line.box[3] for line in lines]
        assert all(top > bottom for top, bottom in zip(tops[1:], bottoms, strict=False))


def test_places_of_lines_are_those_of_the_whole_page():
    assert found(Line("a b", (10, 20, 110, 40), ()), 1000, 200) == (
        "<ref>a b</ref><box>[[10, 100, 110, 200]]</box>"
    )


def test_pictures_of_nothing_hold_nothing():
    rng = random.Random(7)
    for _ in range(20):
        sample = blank_sample(rng)
        assert np.asarray(sample.pictures[0]).std((0, 1)).max() == 0
        assert [one.answer for one in sample.questions] == ["no text", "nothing"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_shapes_fill_their_boxes(colour, shape):
    """All four sides are touched, so the box of an answer is true to the pixel."""
    rng = random.Random(f"{shape} {colour}")
    while True:
        picture, things = draw_scene(rng, 300, 200, lambda _: True, count=1)
        if (things[0].colour, things[0].shape) == (colour, shape):
            break
    pixels = np.asarray(picture).astype(int)
    rows, columns = np.nonzero(np.abs(pixels - COLOURS[colour]).sum(-1) == 0)
    left, top, right, bottom = things[0].box
    assert (columns.min(), columns.max() + 1) == (left, right)
    assert (rows.min(), rows.max() + 1) == (top, bottom)


def test_cells_and_answers():
    thing = Thing((0, 0, 100, 50), "red circle", "red", "circle")
    assert thing.cell(300, 300) == 0
    assert Thing((250, 250, 300, 300), "", "", "").cell(300, 300) == 8
    assert ground_answer("red circle", [thing], 200, 100) == (
        "<ref>red circle</ref><box>[[0, 0, 500, 500]]</box>"
    )


def test_questions_are_different_and_true():
    rng = random.Random(3)
    for _ in range(200):
        _, things = draw_scene(rng, 448, 448)
        asked = questions(rng, things, 448, 448, 4)
        texts = [question.text for question in asked if question.job != "describe"]
        assert len(set(texts)) == len(texts)
        for question in asked:
            if question.text.startswith("Is there"):
                name = question.text.removeprefix("Is there a").lstrip("n ").rstrip("?")
                there = any(thing.name == name for thing in things)
                assert question.answer == ("Yes." if there else "No.")


def test_things_that_are_hard_to_tell_apart_from_left_to_right():
    least = {}
    for close in (False, True):
        gaps = []
        for seed in range(60):
            things = described_sample(random.Random(seed), TILE, close=close).things[0]
            middles = sorted((thing.box[0] + thing.box[2]) / 2 for thing in things)
            gaps.append(min((b - a for a, b in pairwise(middles)), default=TILE))
        least[close] = median(gaps)
    assert least[True] < 16 < least[False]


def test_some_chats_about_videos_begin_with_any_question():
    samples = [KINDS["video"].draw(random.Random(seed)) for seed in range(24)]
    chats = [sample for sample in samples if sample.is_chat]
    assert 4 < len(chats) < 20
    assert len({sample.questions[0].text for sample in chats}) > 3
