"""Boxes in the order in which they are read."""

from langchain_internvl.documents.reading_order import in_columns, in_rows, is_inside, is_level

HEADING = (0, 0, 100, 20)
LEFT = [(0, 40 + 20 * row, 45, 55 + 20 * row) for row in range(4)]
RIGHT = [(55, 44 + 20 * row, 100, 59 + 20 * row) for row in range(4)]
FOOT = (0, 160, 100, 175)


def test_a_heading_its_columns_and_what_follows():
    boxes = [HEADING, *LEFT, *RIGHT, FOOT]
    assert in_columns(boxes[::-1]) == boxes
    assert in_columns([]) == []


def test_lines_that_overlap_are_read_from_the_top():
    boxes = [(0, 0, 90, 20), (10, 15, 95, 35), (5, 30, 80, 50)]
    assert in_columns(boxes[::-1]) == boxes


def test_rows_of_a_table():
    boxes = [*LEFT, *[(x1, y1 - 4, x2, y2 - 4) for x1, y1, x2, y2 in RIGHT]]
    assert in_rows(boxes) == [0, 4, 1, 5, 2, 6, 3, 7]
    assert in_rows([]) == []


def test_level_and_inside():
    assert is_level((0, 0, 9, 10), (20, 5, 30, 15))
    assert not is_level((0, 0, 9, 10), (20, 6, 30, 16))
    assert is_inside((1, 1, 5, 5), (1, 0, 5, 9))
    assert not is_inside((1, 1, 5, 10), (1, 0, 5, 9))
