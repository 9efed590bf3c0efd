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
