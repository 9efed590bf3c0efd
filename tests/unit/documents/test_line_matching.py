"""Which lines of a page a statement is of."""

import pytest

from langchain_internvl.documents.line_matching import is_said, is_same_text, match_lines

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


@pytest.mark.parametrize(
    ("statement", "texts", "lines"),
    [
        # Numbers are whole, and words too where lines with whole words are there.
        ("Total 90", ["Total 900 EUR", "Total 90 EUR"], (1,)),
        ("Item 12", ["Item 1", "2 pieces", "Item 12"], (2,)),
        ("Room 12", ["Room 121", "Room 12"], (1,)),
        ("Room 12", ["Room 121", "Room 12.5", "Room 312"], None),
        ("Total 1,250.00", ["Subtotal 1,250.00", "Total 1,250.00"], (1,)),
        ("Total 1,250.00", ["Subtotal 1,250.00"], (0,)),
        # Signs and decimal points decide between equal digits.
        ("-5 degrees", ["5 degrees", "-5 degrees"], (1,)),
        ("5 degrees", ["-5 degrees", "5 degrees"], (1,)),
        ("Total: 12.50", ["Total: 1250", "Total: 12.50"], (1,)),
        ("Total: 12.50", ["Total: 1250"], (0,)),
        # Other numbers contradict.
        ("The tenant pays 900 EUR rent", ["The tenant pays 950 EUR rent"], None),
        ("In 2024 the tenant pays 900 EUR", ["In 2024 the tenant pays 950 EUR"], None),
        ("The tenant pays 900 EUR rent", ["The tenant pays the rent"], None),
        # Words with digits are the same or others.
        ("INV12345", ["INV12346", "INV12345"], (1,)),
        ("Invoice INV12345 was paid", ["Invoice INV12346 was paid"], None),
        ("AB1234567", ["AB1234568"], None),
        ("Paid for AB1234567", ["AB1234568 is due", "AB1234567 is paid"], (1,)),
        # Numbers in other forms.
        ("1 250 EUR", ["1250 EUR"], (0,)),
        ("1.250,00 EUR rent", ["12.50 EUR rent", "1250 EUR rent"], (1,)),
        ("paid on 3 May 2024", ["paid on 13 May 2024", "paid on 03 May 2024"], (1,)),
        ("the year \u0662\u0660\u0662\u0664", ["the year 2023", "the year 2024"], (1,)),
        # HTML.
        ("Total 2", ['<td colspan="2">Total</td>', "<td>Total</td><td>2</td>"], (1,)),
        ("Smith & Sons", ["Smith amp Sons", "Smith &amp; Sons"], (1,)),
        ("if a < b", ["if a &lt; b"], (0,)),
        # Parts of words without spaces.
        ("九百ユーロ", ["八百ユーロ", "家賃は九百ユーロです"], (1,)),
        ("The rent is 900", ["Therentis900EURandispaidbefore"], (0,)),
    ],
)  # fmt: skip
def test_numbers_and_borders_of_words(statement, texts, lines):
    found = match_lines(statement, texts)
    assert (None if found is None else found.lines) == lines


def test_only_word_for_word_is_said():
    texts = ["Instalment 04 was received, 250.00 EUR", "Instalment 45 was received, 250.00 EUR"]
    for statement, is_there in [
        ("instalment 45 was received", True),
        ("Instalment 46 was received", False),
        ("Instalment 45 was recieved", False),
        ("Instalment 45 was received, 25000 EUR", False),
        ("nstalment 45 was received", False),
        ("", False),
    ]:
        assert is_said(statement, texts) == is_there
        found = match_lines(statement, texts)
        assert (found is not None and found.score == 1) == is_there


def test_the_whole_text_of_a_region():
    assert is_same_text("The rent is 900 EUR.", "the rent is 900 eur")
    assert not is_same_text("The rent", "The rent is 900 EUR")
    assert not is_same_text("Total 12.50", "Total 1250")
    assert not is_same_text("", "")
