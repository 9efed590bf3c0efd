"""Which lines of a page a statement is of."""

import pytest

from langchain_internvl.documents.line_matching import match_lines

LINES = [
    "Lease of the house",
    "Rent 900 monthly",
    "The deposit is paid in advance by bank trans-",
    "fer to the landlord, and is given back at the",
    "end of the lease.",
    "Total 75",
    "Größe: 12 m²",
    "家賃は九百ユーロです",
]


@pytest.mark.parametrize(
    ("statement", "lines"),
    [
        ("rent 900 MONTHLY.", (1,)),
        ("Rent  9OO  monthly", (1,)),  # letters that look alike
        ("bank transfer to the landlord", (2, 3)),  # hyphenated
        ("paid in advance", (2,)),  # a part of a line
        (f"{LINES[2]} {LINES[3]} {LINES[4]}", (2, 3, 4)),
        ("The rent is 900 a month", (1,)),  # in other words
        ("It is 900 EUR", (1,)),
        ("75", (5,)),  # whole words alone
        ("5", None),
        ("grösse 12", (6,)),
        ("家賃は九百ユーロ", (7,)),
        ("Nobody says so", None),
        ("The moon is 44 km away", None),
        ("", None),
        ("... !", None),
    ],
)  # fmt: skip
def test_statements_and_their_lines(statement, lines):
    found = match_lines(statement, LINES)
    assert (None if found is None else found.lines) == lines


def test_of_equal_lines_the_first_and_of_alike_ones_the_best():
    rows = [f"Item {number} costs {number}0 EUR" for number in range(1, 9)] * 2
    for number in range(1, 9):
        found = match_lines(f"item {number} costs {number}0 eur", rows)
        assert (found.lines, found.score) == ((number - 1,), 1.0)


def test_a_statement_along_a_row_of_a_table():
    columns = ["Kettle", "Copper pan", "Spoon", "75 EUR", "120 EUR", "8 EUR"]
    rows = (0, 3, 1, 4, 2, 5)
    assert match_lines("Copper pan 120 EUR", columns, rows).lines == (1, 4)


@pytest.mark.parametrize("texts", [[], [""], ["", " . "]])
def test_pages_that_say_nothing(texts):
    assert match_lines("The rent is 900", texts) is None


def test_a_page_that_says_less_than_the_statement_is_not_all_of_it():
    long = "A statement about many things of which the page says but a single one of them, a house"
    assert match_lines(long, ["house of"]) is None
