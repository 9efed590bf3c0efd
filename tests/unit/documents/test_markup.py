"""Tables in the forms that models write, as HTML; and regions apart from the text."""

import pytest

from langchain_internvl.documents.elements import split_elements
from langchain_internvl.documents.markup import normalise_markup

TWO = "<table>\n<tr><td>a</td><td>b</td></tr>\n</table>"
HEADED = "<table>\n<tr><th>a</th><th>b</th></tr>\n<tr><td>1</td><td>2</td></tr>\n</table>"


@pytest.mark.parametrize(
    ("written", "table"),
    [
        ("| a | b |\n|---|:--:|\n| 1 | 2 |", HEADED),
        ("a | b\n--- | ---\n1 | 2", HEADED),
        (TWO, TWO),
        ("<html><body><table border='1' class=x><tr><td>a</td><td>b</td></tr></table></body>", TWO),
        ("<TABLE><TBODY><TR><TD>a<TD>b</TABLE>", TWO),
        ("<table><tr><td>a</td><td>b", TWO),
        ("<table><tr><td>a</td><td>b</td></tr>", TWO),
        ("<table><td>a</td><td>b</td></table>", TWO),
        ("<fcel>a<fcel>b<nl>", TWO),
        ("<otsl><ched>a<ched>b<nl><fcel>1<fcel>2<nl></otsl>", HEADED),
        ("\\begin{tabular}{|l|c|}\n\\hline\na & b \\\\ \\hline\n\\end{tabular}", TWO),
        ("```html\n" + TWO + "\n```", TWO),
        ("```markdown\n| a | b |\n| --- | --- |\n| 1 | 2 |\n```", HEADED),
    ],
)  # fmt: skip
def test_tables(written, table):
    assert normalise_markup(written) == table
    assert normalise_markup(table) == table  # what is normal stays


@pytest.mark.parametrize(
    ("written", "table"),
    [
        ("| a | b |\n|-|:-:|\n| 1 | 2 |", HEADED),
        ("| a |\n|---|\n| 1 |", "<table>\n<tr><th>a</th></tr>\n<tr><td>1</td></tr>\n</table>"),
        ("<fcel>a<fcel>b<nl>\n\nNext.", f"{TWO}\n\nNext."),
        ("<otsl><fcel>a<fcel>b<nl>\n</otsl> Next.", f"{TWO} Next."),
        ("<fcel>a<fcel>b", TWO),
        ("\\begin{tabular}{ll}a & b", TWO),
        ("\\begin{tabular}[t]{ll}a & b\\end{tabular}", TWO),
        # Without its end it goes to an empty line or a fence.
        ("\\begin{tabular}{ll}\na & b \\\\\n\n# Next, R & D", f"{TWO}\n\n# Next, R & D"),
        ("\\begin{tabular}{ll}a & b\n```\nx & y\n```\n&", f"{TWO}\n```\nx & y\n```\n&"),
        ("\\begin{table}\\begin{tabular}{ll}a & b\n\\end{table}\nSo & so", f"{TWO}\nSo & so"),
        ("\\begin{tabular}{ll} starts one.\n\n\\begin{tabular}{ll}a & b\\end{tabular}",
         f"\\begin{{tabular}}{{ll}} starts one.\n\n{TWO}"),
        ("\\begin{table}\\caption{C}\\begin{tabular}{ll}a&b\\end{tabular}\\end{table}",
         f"\\begin{{table}}\\caption{{C}}{TWO}\\end{{table}}"),
        *((f"<table><tr><td>a</td><td>b</td></tr>{cut}", TWO)
          for cut in ("<", "<t", "</tabl", "</table", "<tr", '<td class="x')),
    ],
)  # fmt: skip
def test_tables_of_rarer_forms(written, table):
    assert normalise_markup(written) == table


@pytest.mark.parametrize(
    ("cell", "kept"),
    [
        ("x<y", "x&lt;y"), ("p < q", "p &lt; q"), ("a <! b > c", "a &lt;! b > c"),
        ("<?x>", "&lt;?x>"), ("R&D AT&T", "R&D AT&T"), ("&lt;b&gt; &#65;", "&lt;b&gt; &#65;"),
        ("1<b>2</b>", "1<b>2</b>"),
        ('<a href="x?a=1&b=2">y</a>', '<a href="x?a=1&b=2">y</a>'), ("x<!-- no -->", "x"),
        ("<script>a<b", "<script>a&lt;b"), ("<title>a", "<title>a"),
        ("\u6c49|\u5b57", "\u6c49|\u5b57"),
        # Characters for private use, which also stand for letters of a PDF's fonts.
        ("\ue000 a<b \ue001 AT&T", "\ue000 a&lt;b \ue001 AT&T"),
        ("\ue0f0\ue0f1", "\ue0f0\ue0f1"),
    ],
)  # fmt: skip
def test_text_of_cells_is_kept(cell, kept):
    """Also where it looks like a tag: the cell's end was lost after `x<y`, and `AT&T` got a `;`."""
    expected = f"<table>\n<tr><td>{kept}</td><td>z</td></tr>\n</table>"
    assert normalise_markup(f"<table><tr><td>{cell}</td><td>z</td></tr></table>") == expected
    if "|" not in cell:
        piped = normalise_markup(f"|{cell}|z|\n|-|-|\n")
        assert piped == expected.replace("td>", "th>")
    assert normalise_markup(expected) == expected


def test_cells_of_otsl_may_have_angles():
    assert normalise_markup("<fcel>x<y<fcel>b<nl>") == TWO.replace("<td>a", "<td>x&lt;y")


def test_spans_and_nested_markup_are_kept():
    text = ('<table><tr><td rowspan="2" width=3>a<br/>b</td><td colspan=1><b>c</b> &amp; d</td>'
            "</tr></table>")  # fmt: skip
    assert normalise_markup(text) == (
        '<table>\n<tr><td rowspan="2">a<br/>b</td><td><b>c</b> &amp; d</td></tr>\n</table>'
    )
    assert normalise_markup("<fcel>a<lcel><nl><fcel>b<fcel>c<nl>") == (
        '<table>\n<tr><td colspan="2">a</td></tr>\n<tr><td>b</td><td>c</td></tr>\n</table>'
    )
    assert normalise_markup(
        "\\begin{tabular}{ll}\\multicolumn{2}{c}{Sum \\& more} \\\\ 1 & 2\\end{tabular}"
    ) == ('<table>\n<tr><td colspan="2">Sum &amp; more</td></tr>\n'
          "<tr><td>1</td><td>2</td></tr>\n</table>")  # fmt: skip
    inner = "<table><tr><td><table><tr><td>x</td></tr></table></td></tr></table>"
    assert normalise_markup(inner).count("</table>") == 2


@pytest.mark.parametrize(
    "text",
    [
        "# Title\n\nA paragraph with a | pipe, 3 < 4 and x > y.\n\n- list",
        "a || b in code",
        "```python\nx = 1\n```\n\ntext\n\n```\n| a | b |\n|---|---|\n```",
        "Costs $5 & more <i>than</i> that",
        "1 | 2\n3 | 4",
        # Mentions of tabular, and tabular in code.
        "Use \\begin{tabular}{ll} to start.\n\nNext, with R & D.\n\n# Heading\nMore.",
        "Write `\\begin{tabular}{ll} a & b` and go on.",
        "Write `\\begin{tabular}{l}` and `\\end{tabular}` around a & b.",
        "So:\n\n```latex\n\\begin{tabular}{ll}\na & b \\\\\n```\n\nNext, R & D.",
        "So:\n\n~~~\n\\begin{tabular}{ll}a & b\\end{tabular}\n~~~\n\nNext.",
        # The rule has as many columns as the head.
        *(
            f"{head}\n{rule}"
            for head, rule in (
                ("| a | b | c |", "|---|"),
                ("| a |", "|---|---|"),
                ("a | b | c", "--- | ---"),
                (r"| a \| b |", "|---|---|"),
            )
        ),
        "<b>bold</b> and a <br> break",
        "~~~\n| a | b |\n|---|---|\n~~~\n\n````\n```\n| a | b |\n|---|---|\n````",
    ],
)
def test_text_without_tables_stays(text):
    assert normalise_markup(text) == text


def test_text_around_and_between_tables_stays_letter_by_letter():
    text = (
        "A & B < C\n\n<table><tr><td>1</td></tr></table>\n\nx && y\n\n| a | b |\n|--|--|\n\nEnd & <"
    )
    assert normalise_markup(text) == (
        "A & B < C\n\n<table>\n<tr><td>1</td></tr>\n</table>\n\nx && y\n\n"
        "<table>\n<tr><th>a</th><th>b</th></tr>\n</table>\n\nEnd & <"
    )


def test_regions_are_taken_out_of_the_text():
    text = ("<ref>title</ref><box>[[100, 50, 900, 120]]</box>Annual report\n"
            "<ref>table</ref><box>[[100, 200, 900, 600]]</box>\n| a |")  # fmt: skip
    rest, boxes = split_elements(text)
    assert rest == "Annual report\n\n| a |"
    assert [(one.label, one.box) for one in boxes] == [
        ("title", (100, 50, 900, 120)),
        ("table", (100, 200, 900, 600)),
    ]
    assert split_elements("[[1, 2, 3, 4]] is a matrix") == ("[[1, 2, 3, 4]] is a matrix", ())
    assert split_elements("<box>not one</box>") == ("<box>not one</box>", ())


def test_spaces_below_a_row_take_a_step_each():
    """20,000 took 4 s, in quadratic time."""
    for spaces in (" " * 200_000, "\t" * 200_000, f"|-{' ' * 200_000}"):
        assert normalise_markup(f"| a | b |\n{spaces}x") == f"| a | b |\n{spaces}x"
