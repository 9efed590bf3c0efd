"""Marks of pages in answers, and the statements that they belong to."""

import pytest
from langchain_core.documents import Document
from langchain_core.messages import AIMessage

from langchain_internvl.documents.cited_answer import cite

PAGES = [
    Document(page_content="The rent is 900 EUR.",
             metadata={"source": "box/lease.pdf", "page": 1, "page_id": "aa-1"}),
    Document(page_content="The deposit is 1800 EUR.",
             metadata={"source": "box/lease.pdf", "page": 2, "page_id": "aa-2"}),
]  # fmt: skip


def cited(answer):
    return [(answer.text[one["start_index"]:one["end_index"]], one["extras"]["number"])
            for one in answer.citations]  # fmt: skip


@pytest.mark.parametrize(
    ("said", "text", "expected"),
    [
        ("The rent is 900 EUR [1].", "The rent is 900 EUR.", [("The rent is 900 EUR", 1)]),
        ("It is 900 [1] and 1800 [2].", "It is 900 and 1800.", [("It is 900", 1), ("and 1800", 2)]),
        ("Hm. Both say so. [1, 2]", "Hm. Both say so.", [("Both say so.", 1), ("Both say so.", 2)]),
        ("Nobody says.", "Nobody says.", []),
        ("A list [a] of [1]st", "A list [a] ofst", [("A list [a] of", 1)]),
    ],
)  # fmt: skip
def test_marks_become_annotations(said, text, expected):
    answer = cite(AIMessage(said), PAGES)
    assert answer.text == text
    found = [(answer.text[one["start_index"]:one["end_index"]], one["extras"]["number"])
             for one in answer.citations]  # fmt: skip
    assert [(one.strip(), number) for one, number in found] == expected
    assert answer.message.text == text
    if expected:
        annotation = answer.message.content_blocks[0]["annotations"][0]
        assert annotation["type"] == "citation"
        assert annotation["url"] == "box/lease.pdf"
        assert annotation["title"] == "lease.pdf, page 2"
        assert annotation["extras"]["page_id"] == "aa-1"


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_missing_values_of_stores_are_in_no_citation(missing):
    metadata = dict.fromkeys(("source", "page", "page_id"), missing)
    answer = cite(AIMessage("It is 900 [1]."), [Document("It is 900.", metadata=metadata)])
    (citation,) = answer.citations
    assert citation.get("url") is None
    assert citation["title"] == "document"
    assert citation["extras"] == {"number": 1}


RENT = ("The rent is 900", 1)


@pytest.mark.parametrize(
    ("said", "text", "expected"),
    [
        *(
            (f"The rent is 900{marks}.", "The rent is 900.", [RENT, ("The rent is 900", 2)])
            for marks in (
                "[1][2]", " [1] [2]", " [1], [2]", " [1] and [2]", " [1; 2]", " [1 and 2]",
                " [1-2]", " [1], and [2]", " [1]-[2]", " [1] \u2013 [2]",
                " [1\u20112]", " [pg. 1, pg. 2]",
                "[\u7b2c1\u9875][\u7b2c2\u9875]", "\u3010\u7b2c1-2\u9875\u3011",
                "[1\u9875\uff0c2\u9875]",
                " [1\u20132]", " [pages 1, 2]", " [pp. 1-2]", " [Page 1, Page 2]", " [^1][^2]",
                " \u30101\u3011\u30102\u2020source\u3011", " [[1, 2]]", " \uff3b1\uff0c2\uff3d",
            )
        ),
        ("The rent is 900 [1]. [2]", "The rent is 900.", [RENT, ("The rent is 900", 2)]),
        # Marks that lead a line belong to what follows.
        ("[1] The rent is 900\n[2] It is so.", "The rent is 900\nIt is so.",
         [RENT, ("It is so.", 2)]),
        ("- [1]: The rent is 900", "- The rent is 900", [RENT]),
        ("1. [1] The rent is 900 [2].", "1. The rent is 900.", [RENT, ("The rent is 900", 2)]),
        ("[1] The rent is 900. [2] It is so. [1] Yes.", "The rent is 900. It is so. Yes.",
         [("The rent is 900.", 1), ("It is so.", 2), ("Yes.", 1)]),
        ("- [1] A. [2] B.\n- [2] C", "- A. B.\n- C", [("A.", 1), ("B.", 2), ("C", 2)]),
        ("[1] A; [2] B", "A; B", [("A", 1), ("B", 2)]),
        ("[1]: A and [2]: B, C.", "A and B, C.", [("A", 1), ("B, C.", 2)]),
        ("1. [1] A | [2] B |", "1. A | B |", [("A", 1), ("B", 2)]),
        ("[1] A is. B is [2].", "A is. B is.", [("A is.", 1), ("B is", 2)]),
        ("[1] A is. B is. [2]", "A is. B is.", [("A is.", 1), ("B is.", 2)]),
        ("[1] A is. [2] B is. C is [1].", "A is. B is. C is.",
         [("A is.", 1), ("B is.", 2), ("C is", 1)]),
        ("[1] A is [2] and B is [1].", "A is and B is.",
         [("A is", 1), ("A is", 2), ("and B is", 1)]),
        ("A is [1]. [2] B is. [1] C is.", "A is. B is. C is.",
         [("A is", 1), ("B is.", 2), ("C is.", 1)]),
        ("A is [1]. [2]. B is so.", "A is.. B is so.", [("A is", 1), ("A is", 2)]),
        ("[1] A is.\nB is. [2] C is.", "A is.\nB is. C is.", [("A is.", 1), ("B is.", 2)]),
        ("The rent is 900\n[1]\nSo.", "The rent is 900\nSo.", [RENT]),
        # What is around nothing but marks goes with them.
        *(
            (f"The rent is 900 {marks}.", "The rent is 900.", [RENT])
            for marks in ("**[1]**", "*[1]*", "__[1]__", "_[1]_", "***[1]***", "([1])",
                          "**([1])**", "<sup>[1]</sup>", "\uff08[1]\uff09")
        ),
        *(
            (f"The rent is 900 {marks}.", "The rent is 900.", [RENT, ("The rent is 900", 2)])
            for marks in ("([1], [2])", "**[1][2]**", "**[1]**, **[2]**", "(**[1]** and [2])")
        ),
        ("- **[1]**: The rent is 900", "- The rent is 900", [RENT]),
        ("- **[1]:** The rent is 900", "- The rent is 900", [RENT]),
        ("* The rent is 900 *[1]*", "* The rent is 900", [("* The rent is 900", 1)]),
        # Emphasis of other words stays.
        ("**A.**[1]**B.**", "**A.****B.**", [("**A.**", 1)]),
        ("**A is [1]**", "**A is**", [("**A is", 1)]),
        ("**A** and **B** **[1]**", "**A** and **B**", [("**A** and **B**", 1)]),
        ("(A is [1])", "(A is)", [("(A is", 1)]),
        # Code, links and other brackets are text.
        ("`x[0]` is 9 [2].", "`x[0]` is 9.", [("`x[0]` is 9", 2)]),
        ("```\na[1]\n```\nSo [2].", "```\na[1]\n```\nSo.", [("So", 2)]),
        ("~~~\na[1]", "~~~\na[1]", []),
        ("See [1](https://a.b) and [1]: https://a.b", None, []),
        ("It is [2-1], [2024], [1, x] and [].", None, []),
        ("[1]", "", [("", 1)]),
    ],
)  # fmt: skip
def test_marks_of_every_form(said, text, expected):
    answer = cite(AIMessage(said), PAGES)
    assert answer.text == (said if text is None else text)
    assert cited(answer) == expected
    assert [one["cited_text"] for one in answer.citations] == [one for one, _ in expected]


@pytest.mark.parametrize(
    ("mark", "numbers", "unknown"),
    [
        ("[pages 2-4]", [2], (3, 4)), ("[pp. 1-900]", [1, 2], (3, 900)),
        ("[p. 10 - p. 20]", [], (10, 20)), ("[Seiten 2 bis 3]", [2], (3,)),
        ("[s. 0-1]", [1], (0,)), ("\u301010-20\u2020source\u3011", [], (10, 20)),
        ("[1][pages 2-900]", [1, 2], (3, 900)),
        # Without a word, if a number or a range begins on a page.
        ("[2-4]", [2], (3, 4)), ("[1-900]", [1, 2], (3, 900)), ("[[1-3]]", [1, 2], (3,)),
        ("[2, 5-7]", [2], (5, 7)), ("[1, 2-3]", [1, 2], (3,)), ("[1][2-9]", [1, 2], (3, 9)),
        ("[1]-[9]", [1, 2], (3, 9)),
        ("[1]\u2013[2]\u2013[3]", [1, 2], (3,)),
        ("[7]-[9]", [], (7, 9)), ("[2]-[1]", [2, 1], ()), ("[5-7, 1]", [1], (5, 7)),
        ("[0, 1-2]", [1, 2], (0,)), ("[1 to 3]", [1, 2], (3,)),
    ],
)  # fmt: skip
def test_ranges_beyond_the_pages_are_reported(mark, numbers, unknown):
    """By their ends, not by hundreds of numbers."""
    answer = cite(AIMessage(f"So it is {mark}."), PAGES)
    assert [one["extras"]["number"] for one in answer.citations] == numbers
    assert (answer.text, answer.unknown) == ("So it is.", unknown)


@pytest.mark.parametrize(
    "said",
    ["[10-20]", "[3-4]", "[0-1]", "[10 to 20]", "[5, 7-9]", "[[3-5]]", "[^a-z] [^0-9]"],
)
def test_other_ranges_are_text(said):
    answer = cite(AIMessage(f"Widths of {said} mm are allowed [1]."), PAGES)
    text = f"Widths of {said} mm are allowed"
    assert (answer.text, cited(answer), answer.unknown) == (f"{text}.", [(text, 1)], ())


def test_a_range_that_goes_too_far_keeps_its_pages():
    """All citations were lost, and nothing was reported."""
    pages = [*PAGES, Document("The end.")]
    for said, numbers, unknown in (
        ("The rent is 900 [1-4].", [1, 2, 3], (4,)),
        ("A is so [1, 3-5].", [1, 3], (4, 5)),
        ("A [1][2-9].", [1, 2, 3], (4, 9)),
    ):
        answer = cite(AIMessage(said), pages)
        assert [number for _, number in cited(answer)] == numbers
        assert answer.unknown == unknown
        assert "[" not in answer.text


@pytest.mark.parametrize("separators", [", " * 60_000, " and" * 40_000 + " ", ";\t| & " * 20_000])
def test_runs_of_separators_take_a_step_each(separators):
    """Each was tried as the first of the run, in quadratic time: 4000 took 1.2 s."""
    answer = cite(AIMessage(f"[1] A{separators}[2] B"), PAGES)
    assert cited(answer) == [("A", 1), ("B", 2)]
    answer = cite(AIMessage(f"[1] A{separators}c."), PAGES)
    assert cited(answer) == [(f"A{separators}c.", 1)]


@pytest.mark.parametrize("kept", ["A band", "A hund", "A handand"])
def test_words_that_end_like_and_stay_whole(kept):
    assert cited(cite(AIMessage(f"[1] {kept} and [2] B"), PAGES)) == [(kept, 1), ("B", 2)]


def test_a_line_that_begins_with_code_hides_no_marks():
    answer = cite(AIMessage("```x``` is it [1].\nThe rent is 900 [2]."), PAGES)
    assert cited(answer) == [("```x``` is it", 1), ("The rent is 900", 2)]


def test_a_mark_after_one_of_no_page_cites_the_same_statement():
    answer = cite(AIMessage("A is true [9]. [1]"), PAGES)
    assert (answer.text, cited(answer), answer.unknown) == ("A is true.", [("A is true", 1)], (9,))


def test_marks_of_no_page_are_reported():
    answer = cite(AIMessage("So it is [7]."), PAGES)
    assert (answer.text, answer.citations, answer.unknown) == ("So it is.", (), (7,))


@pytest.mark.parametrize(
    ("said", "statements"),
    [
        ("Ann pays 900 EUR to Mr. Smith [1].", ["Ann pays 900 EUR to Mr. Smith"]),
        ("Fine. See art. 5 of No. 7, i.e. 10 EUR [1].", ["See art. 5 of No. 7, i.e. 10 EUR"]),
        ("J. Smith pays z.B. 12.50 [1]. Dr. Who 5 [2].",
         ["J. Smith pays z.B. 12.50", "Dr. Who 5"]),
        ("So it is.\n10 EUR are due. [1]", ["10 EUR are due."]),
        ("家賃は九百。敷金は千八百。[1]", ["敷金は千八百。"]),
    ],
)  # fmt: skip
def test_statements_are_whole_sentences(said, statements):
    cited = [one["cited_text"].lstrip(" .") for one in cite(AIMessage(said), PAGES).citations]
    assert cited == statements
