"""The text of HTML."""

import pytest

from langchain_internvl.documents.html_text import lines_of, without_tags


def test_tags_are_spaces():
    assert without_tags('<td colspan="2">A&amp;B</td>').split() == ["A&B"]
    assert without_tags("if a < b and c > d") == "if a < b and c > d"
    assert without_tags("<IMG_CONTEXT> <x@y.z>") == "<IMG_CONTEXT> <x@y.z>"


ROWS = (
    "<tr><th>Item</th><th colspan='2'>Price</th></tr>"
    "<tr><td>A &amp; B</td><td></td><td>75</td></tr>"
)
SPACED = ROWS.replace("</tr>", "</tr>\n")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb <b>c</b> &amp;", ["a", "b <b>c</b> &amp;"]),
        (f"Prices\n<table>{ROWS}</table>\nEnd", ["Prices", "Item | Price", "A & B | 75", "End"]),
        (f"<table>\n{SPACED}</table>", ["Item | Price", "A & B | 75"]),
        ("<table><caption>All</caption><tr><td>a<br>b\nc</td></tr></table>", ["All", "a b c"]),
        ("before\nold</td><td>75</td></tr>\n<tr><td>new", ["before", "old | 75", "new"]),
        ("<table><tr><td>a<td>b<tr><td>c</table>", ["a | b", "c"]),
        ("<table><tr><td>x<table><tr><td>y</td></tr></table></td></tr></table>", ["x", "y"]),
    ],
)  # fmt: skip
def test_rows_of_tables(text, lines):
    assert [line for line in lines_of(text) if line.strip()] == lines
