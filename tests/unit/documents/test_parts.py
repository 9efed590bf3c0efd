"""Pages in parts, and their texts together again."""

import pytest
from drawn_pages import draw_page
from PIL import Image

from langchain_internvl.documents.parts import (
    cut_bands,
    cut_to_budget,
    merge_texts,
    tiles_needed,
)


def test_tiles_of_a_page():
    assert tiles_needed(1266, 1792) == 12  # A4 at 3 x 4
    assert tiles_needed(448, 448) == tiles_needed(500, 490) == tiles_needed(1, 1) == 1
    assert tiles_needed(2480, 3508) == 6 * 8


@pytest.mark.parametrize(
    ("size", "budget", "count"),
    [((1266, 1792), 12, 1), ((1267, 12671), 12, 9), ((2480, 3508), 12, 5), ((18000, 448), 12, 4),
     ((4000, 4000), 12, 10), ((448, 4480), 1, 11)],
)  # fmt: skip
def test_parts_fit_the_budget_and_leave_nothing_out(size, budget, count):
    page = Image.new("RGB", size, "white")
    parts = [part.image for part in cut_to_budget(page, budget)]
    assert all(tiles_needed(*part.size) <= budget for part in parts)
    covered = sum(part.width * part.height for part in parts)
    assert covered >= size[0] * size[1]
    assert len(parts) == count


@pytest.mark.parametrize(
    ("size", "budget", "fitted"),
    [((7168, 896), 12, (4032, 504)), ((3136, 896), 12, (2744, 784)), ((9000, 448), 12, (5432, 270)),
     ((1500, 448), 2, (952, 284))],
)  # fmt: skip
def test_wide_pages_are_shrunk_not_cut_through_their_lines(size, budget, fitted):
    ((part, box),) = cut_to_budget(Image.new("RGB", size, "white"), budget)
    assert (part.size, box) == (fitted, (0, 0, *size))
    assert tiles_needed(*part.size) <= budget


def test_bands_are_cut_between_lines():
    page = draw_page(*["A line of text over the page"] * 18)
    upper, lower = (part.image for part in cut_bands(page, 2))
    assert upper.height + lower.height > page.height
    for edge in (upper.crop((0, upper.height - 1, 620, upper.height)), lower.crop((0, 0, 620, 1))):
        assert edge.convert("L").getextrema()[0] > 200


def test_shared_lines_are_there_once():
    assert merge_texts(["a one\nb two\nc three", "b two\nc three\nd four"]) == (
        "a one\nb two\nc three\nd four"
    )
    assert merge_texts(["a one\nb two", "c three\nd four"]) == "a one\nb two\nc three\nd four"
    assert merge_texts(["only"]) == "only"
    assert merge_texts(["", "text"]) == "text"


def test_lines_that_were_read_a_little_differently_are_the_same():
    upper = "Chapter one\nIt was a bright cold day in April\nand the clocks were str"
    lower = "It was a brlght cold day in April,\nand the clocks were striking\nthirteen."
    assert merge_texts([upper, lower]).splitlines() == [
        "Chapter one",
        "It was a brlght cold day in April,",
        "and the clocks were striking",
        "thirteen.",
    ]


def test_the_first_line_of_a_part_may_be_half_a_line():
    upper = "one\nLorem ipsum dolor\nsit amet consectetur"
    lower = "~~ --\nLorem ipsum dolor\nsit amet consectetur\nadipiscing elit"
    assert merge_texts([upper, lower]) == (
        "one\nLorem ipsum dolor\nsit amet consectetur\nadipiscing elit"
    )


def test_equal_rows_are_not_lost():
    upper = "Head\n" + "0,00 EUR paid\n" * 12
    lower = "0,00 EUR paid\n" * 12 + "Total"
    rows = merge_texts([upper.strip(), lower.strip()]).count("0,00 EUR paid")
    assert 22 <= rows <= 24


def test_what_only_begins_alike_is_not_merged():
    upper, lower = "a\nTotal: 12", "Total: 12 EUR are due by the end of the month\nb"
    assert merge_texts([upper, lower]).splitlines()[0] == "a"
    assert "Total: 12" in merge_texts([upper, lower])
