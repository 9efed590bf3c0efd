"""Circles that models run in, and print that only looks like them."""

import pytest

from langchain_internvl.tools.repetition import cut_repetition


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Total: 12\n" + "the end " * 20, "Total: 12\nthe end "),
        ("abc" * 40, "abc"),
        ("Start\n" + "a" * 100, "Start\na"),
        ("line one\nline two\n" * 10, "line one\nline two\n"),
    ],
)
def test_circles_are_cut_off_after_one_turn(text, kept):
    assert cut_repetition(text, is_complete=False) == kept


def test_a_text_that_ended_by_itself_may_repeat_more():
    """Tables end in equal rows; but nothing is printed twenty times over by chance."""
    rows = "Item | Price\n" + "| 0.00 | 0.00 | 0.00 |\n" * 5
    assert cut_repetition(rows, is_complete=True) is None
    assert cut_repetition(rows, is_complete=False) is not None
    endless = "Name\n" + "No. 10\n" * 20
    assert cut_repetition(endless, is_complete=True) == "Name\nNo. 10"


@pytest.mark.parametrize(
    "text",
    ["no " * 20, "Total 5\n" * 20, "The cat sat on the mat. " * 5, "Das ist der Rand\n" * 6,
     "start of it\n" + "1 2 " * 25, "x" * 40],
)  # fmt: skip
def test_short_loops_of_a_complete_text_are_found(text):
    kept = cut_repetition(text, is_complete=True)
    assert kept is not None
    assert len(kept) < len(text)


@pytest.mark.parametrize(
    "text",
    ["Yes\n" * 15, "| one cell | two cells | three |\n" * 6, "0.00 0.00 0.00\n" * 9,
     "Name\tStreet\tCity\n" * 7, "ha ha ha ha ha ha", "XXXXXXXXXXXXXXXXXXXX", "no\n" * 12,
     "Row, row, row your boat\n" * 4],
)  # fmt: skip
def test_equal_rows_of_a_complete_text_are_no_loop(text):
    assert cut_repetition(text, is_complete=True) is None


def test_short_loops_up_to_the_limit_are_found():
    assert cut_repetition("Sum\n" + "the x " * 12, is_complete=False) == "Sum\nthe x "
    assert cut_repetition("one " * 12, is_complete=False) == "one "
    assert cut_repetition("1 0 " * 14, is_complete=False) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Chapter 1 " + "." * 200,
        "-" * 500 + "\n" + "=" * 500,
        "1 0 0 0\n" * 7,
        "ha ha ha ha",
        "| a | b |\n|---|---|\n" + "".join(f"| {n} | {n * n} |\n" for n in range(40)),
        "\n" * 300 + "end",
        "Item\n" + "0.00\n" * 30 + "Total: 12 EUR\nPay by Friday",
        "A text of some length that says one thing after the other and never twice the same.",
    ],
)
def test_print_is_left_alone(text):
    assert cut_repetition(text, is_complete=False) is None
