r"""LaTeX tabulars, nested ones and those without their end, as HTML."""

import pytest

from langchain_internvl.documents.latex_tables import convert_tabulars
from langchain_internvl.documents.markup import normalise_markup


def table(*rows):
    cells = ("".join(f"<td>{cell}</td>" for cell in row) for row in rows)
    return "<table>\n" + "\n".join(f"<tr>{row}</tr>" for row in cells) + "\n</table>"


BEGIN, END = "\\begin{tabular}{ll}", "\\end{tabular}"
RULES = (
    "\\toprule[1pt] a & b \\\\ \\cmidrule(lr){1-2}\\cmidrule[1pt]{2-2} c & d "
    "\\\\ \\addlinespace[2pt] \\bottomrule"
)
LINES = "\\begin{tabular}[c]{@{}c@{}}x\\\\y\\end{tabular}"
"""As generators of tables write the lines of a cell."""


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (f"{BEGIN}a & \\begin{{tabular}}{{c}}x\\\\y{END} \\\\ b & c\\\\ {END} tail",
         table(("a", "x<br>y"), ("b", "c")) + " tail"),
        (f"{BEGIN}\\hline\n{LINES} & {LINES} \\\\ \\hline\n1 & 2 \\\\ {END}",
         table(("x<br>y", "x<br>y"), ("1", "2"))),
        (f"{BEGIN}R\\&D {LINES} < & b{END}", table(("R&amp;D x<br>y &lt;", "b"))),
        (f"{BEGIN}\\multicolumn{{2}}{{@{{}}c@{{}}}}{{{LINES}}} \\\\ 1 & 2{END}",
         table(("x<br>y",), ("1", "2")).replace("<td>", '<td colspan="2">', 1)),
        (f"{BEGIN}{BEGIN}{LINES} & 2{END} & b{END}", table((table(("x<br>y", "2")), "b"))),
        (f"{BEGIN}a & \\begin{{tabular}}{{c}}{END}b{END}",
         table(("a", f"\\begin{{tabular}}{{c}}{END}b"))),
        # Other environments of the same rows, and the rules of booktabs.
        (f"{BEGIN}{RULES}{END} tail", table(("a", "b"), ("c", "d")) + " tail"),
        *(
            (f"A\n\\begin{{{name}}}{place}{{l|X}}a & b \\\\ c & {LINES}\\end{{{name}}}\nB",
             "A\n" + table(("a", "b"), ("c", "x<br>y")) + "\nB")
            for name, place in (
                ("tabular*", "{\\textwidth}[t]"), ("tabularx", "{0.5\\linewidth}"),
                ("tabulary", "{8cm}"),
            )
        ),
        ("\\begin{tabularx}{\\textwidth}{lX}a & b \\\\ c &", table(("a", "b"), ("c", ""))),
        # Without the end of the outer one.
        (f"{BEGIN}a & {LINES} \\\\\n{LINES} & c\n\nR & D",
         table(("a", "x<br>y"), ("x<br>y", "c")) + "\n\nR & D"),
        (f"{BEGIN}a & b \\\\\n{BEGIN}c & d", table(("a", "b")) + table(("c", "d"))),
        (f"{BEGIN}a & b \\\\\n{BEGIN}c & d{END} e", table(("a", "b")) + table(("c", "d")) + " e"),
        (f"{BEGIN}a & b\n\n{BEGIN}c & d{END}", table(("a", "b")) + "\n\n" + table(("c", "d"))),
        (f"{BEGIN}a & {BEGIN}c & d", table(("a", "")) + table(("c", "d"))),
        (f"A\n{BEGIN}\n\na & b \\\\\nc & d\n\nR & D",
         "A\n" + table(("a", "b"), ("c", "d")) + "\n\nR & D"),
        (f"{BEGIN}.5 & .7 \\\\ ? & !{END}", table((".5", ".7"), ("?", "!"))),
        (f"{BEGIN}? & b{END} and {BEGIN}.5 & .7",
         f"{table(('?', 'b'))} and {BEGIN}.5 & .7"),
        # Mentions and code beside tables.
        (f"Sum: {BEGIN}a & b\\\\ c & d", f"Sum: {table(('a', 'b'), ('c', 'd'))}"),
        (f"\\caption{{A sum}} {BEGIN}a & b", f"\\caption{{A sum}} {table(('a', 'b'))}"),
        (f"Use \\begin{{tabular}} and R&D: {BEGIN}a & b{END}",
         f"Use \\begin{{tabular}} and R&D: {table(('a', 'b'))}"),
        (f"From \\begin{{tabular}} & on\n{BEGIN}a & b{END}\nto {END}.",
         f"From \\begin{{tabular}} & on\n{table(('a', 'b'))}\nto {END}."),
        (f"`{BEGIN}` is\n{BEGIN}a & b{END}\nto `{END}`.",
         f"`{BEGIN}` is\n{table(('a', 'b'))}\nto `{END}`."),
        (f"{END} {BEGIN}``a'' {END} and ``b''", f"{END} {table(('``a' + chr(39) * 2,))} and ``b''"),
    ],
)  # fmt: skip
def test_nested_tabulars_and_those_without_an_end(written, expected):
    assert convert_tabulars(written) == expected
    if "<br>" in expected:
        assert normalise_markup(written) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Use \\begin{tabular} and R&D. more text\nsecond line",
        "Use \\begin{tabular}[t] and R&D.",
        "Use \\begin{tabular}{ll} and separate cells with & in a row.",
        "The \\begin{tabular}{ll} environment & its friends.\n\nMore.",
        "- \\begin{tabular}{ll}, which has R & D",
        "Begin with \\begin{tabular}{ll}, put & between cells, close with \\end{tabular}. Done.",
        "Rows of \\begin{tabular}{ll}: they end with \\\\, cells with &, it with \\end{tabular}.",
        "Close \\begin{tabular}{ll} with \\end{tabular}, and R & D.",
        f"Use {BEGIN}\n\nNext, R & D.",
        f"Use {BEGIN}\n\nNext, R & D \\\\ more.",
        f"{BEGIN}\n\nNext, R & D.",
        f"`{BEGIN}a & b` and R & D",
        f"~~~\n{BEGIN}a & {LINES}{END}\n~~~",
    ],
)
def test_mentions_and_code_stay(text):
    assert convert_tabulars(text) == text


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("longtable", "[c]{@{}ll@{}}"), ("longtable*", "{ll}"), ("supertabular", "{l|l}"),
        ("supertabular*", "{5cm}{ll}"), ("mpsupertabular", "{ll}"), ("xtabular", "{ll}"),
        ("tabu", "{X[l]X}"), ("tabu", " to \\textwidth {X[l]X}"),
        ("longtabu", " spread 2cm{|l|l|}"), ("xltabular", "{\\textwidth}{lX}"),
        ("tblr", "{colspec={ll}, hlines}"), ("longtblr", "[caption={x}]{ll}"),
        ("NiceTabular", "{ll}"),
    ],
)  # fmt: skip
def test_other_environments_of_the_same_rows(name, place):
    rows = f"a & b \\\\* c & {LINES}\\tabularnewline \\hdashline d & e"
    whole = f"A\n\\begin{{{name}}}{place} {rows} \\end{{{name}}}\nB"
    expected = table(("a", "b"), ("c", "x<br>y"), ("d", "e"))
    assert normalise_markup(whole) == f"A\n{expected}\nB"
    cut = f"A\n\\begin{{{name}}}{place} {rows}\n\nR & D"
    assert convert_tabulars(cut) == f"A\n{expected}\n\nR & D"
    mention = f"Use \\begin{{{name}}}{place}, whose cells have an & between them."
    assert convert_tabulars(mention) == mention


LONG, HEAD = "\\begin{longtable}{ll}", "\\toprule a & b \\\\ \\specialrule{1pt}{2pt}{3pt}"


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (f"\\caption{{The \\textbf{{costs}}}}\\label{{t}}\\\\ {HEAD} \\endhead c & d \\\\",
         table(("The \\textbf{costs}",), ("a", "b"), ("c", "d"))),
        (f"{HEAD} \\endfirsthead {HEAD} \\endhead \\bottomrule \\endfoot c & d \\\\ a & b",
         table(("a", "b"), ("c", "d"), ("a", "b"))),
        (f"{HEAD} \\endfirsthead more & \\\\ {HEAD} \\endhead c & d",
         table(("a", "b"), ("more", ""), ("a", "b"), ("c", "d"))),
    ],
    ids=["caption", "a head that is repeated", "another head"],
)  # fmt: skip
def test_heads_of_long_tables(rows, expected):
    assert convert_tabulars(f"{LONG} {rows} \\end{{longtable}}") == expected


def test_tables_over_two_columns_are_tables():
    written = f"\\begin{{table*}}[t]\n\\centering\n{BEGIN}a & b{END}\n\\end{{table*}} x"
    assert convert_tabulars(written) == table(("a", "b")) + " x"


def test_deep_nesting_needs_no_stack():
    depth = 3000
    written = "\\begin{tabular}{l}" * depth + "a" + END * depth
    assert convert_tabulars(written) == table(("a",))
    assert convert_tabulars(BEGIN * depth) == BEGIN * depth
