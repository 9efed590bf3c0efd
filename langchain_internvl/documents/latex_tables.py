r"""Converts LaTeX tabulars to HTML tables.

Of nested tabulars the inner ones are converted first: one of one column becomes the lines of its
cell, another a table in it. Tabulars whose end is missing go to `\end{table}`, an empty line, a
fence of code, or the next tabular that is in none of their cells.
"""

from __future__ import annotations

import html
import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from langchain_internvl.documents.markdown_code import CODE_FENCE, code_spans

_PLAIN = r"(?:tabular|(?:mp)?(?:super|x)tabular|longtable\*?|NiceTabular|(?:long|tall)?tblr)"
_WITH_WIDTH = r"(?:tabular[*xy]|(?:mp)?(?:super|x)tabular\*|xltabular|NiceTabular[*X])"
_TABU = r"(?:long)?tabu\*?"
"""Environments with the rows of a tabular: with columns, with a width before these, and tabu's,
whose width follows a word."""
_TABLE = r"(?:sideways)?table\*?"
_COLUMNS = r"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}"
_EDGE = re.compile(
    rf"(?P<table>\\begin\{{{_TABLE}\}}(?:\[[^\]]*\])?\s*)?(?:\\centering\s*)?"
    rf"(?P<begin>\\begin\{{(?:{_PLAIN}\}}|{_WITH_WIDTH}\}}\s*\{{[^{{}}]*\}}"
    rf"|{_TABU}\}}\s*(?:(?:to|spread)\s*[^{{}}\n]*)?))(?:\[[^\]]*\])?"
    rf"(?P<columns>{_COLUMNS})?"
    rf"|\\end\{{(?:{_PLAIN}|{_WITH_WIDTH}|{_TABU})\}}",
)
_TABLE_END = re.compile(rf"\s*\\end\{{{_TABLE}\}}")
_CUT = re.compile(rf"\\end\{{{_TABLE}\}}|\n\s*\n|\n[ \t]*(?:`{{3}}|~{{3}})")
_AFTER_CELL = re.compile(r"\s*(?:&|\\\\|\\tabularnewline)")
_EMPTY_LINE = re.compile(r"[ \t]*\n\s*\n")
_MENTION = re.compile(r"[,.;:!?)](?![\d&]|\s*&)")
"""What goes on with a sentence, after the columns of a tabular that is only named: not the first
cell of a table, such as ".5"."""
_COMMAND = re.compile(r"\\[a-zA-Z]+\*?(?:\[[^\[\]]*\]|\{[^{}]*\})*")
_RULES = (
    r"\\(?:(?:toprule|midrule|bottomrule)(?:\[[^\]]*\])?|hline|addlinespace(?:\[[^\]]*\])?"
    r"|[ch]dashline(?:\{[^{}]*\})?|(?:first|last)hline|(?:hh|c)line\{[^{}]*\}|Xhline\{[^{}]*\}"
    r"|specialrule(?:\{[^{}]*\}){3}|morecmidrules|tabucline(?:\[[^\]]*\])?\{[^{}]*\}"
    r"|end(?:firsthead|head|foot|lastfoot)"
    r"|cmidrule(?:\[[^\]]*\])?(?:\([^()]*\))?\{[^{}]*\})"
)
_RULE = re.compile(_RULES)
_ROW = re.compile(r"(?:\\\\\*?|\\tabularnewline(?![a-zA-Z]))(?:\[[^\]]*\])?")
_SEPARATOR = re.compile(rf"(?<!\\)&|{_ROW.pattern}")
_MULTICOLUMN = re.compile(
    rf"(?:\s|{_RULES})*\\multicolumn\{{(\d+)\}}{_COLUMNS}\{{(.*)\}}(?:\s|{_RULES})*", re.DOTALL
)
_CAPTION = re.compile(
    rf"(?:\s|{_RULES})*\\caption\*?(?:\[[^\]]*\])?\{{([^{{}}]*(?:\{{[^{{}}]*\}}[^{{}}]*)*)\}}"
    r"(?:\s|\\label\{[^{}]*\})*"
)
"""The caption of a long table, which is a row of it."""


@dataclass
class _Tabular:
    """A tabular in a text.

    Attributes:
        edge: Its beginning.
        in_code: Whether it begins in code.
        inner: The converted tabulars within, in order.
        end: Where the text after it begins.
        rows: The HTML of its cells, `<td>` included.
        lines: The HTML of the cells of one column.
    """

    edge: re.Match[str]
    in_code: bool
    inner: list[_Tabular] = field(default_factory=list)
    end: int = -1
    rows: list[str] = field(default_factory=list)
    lines: list[str] | None = None

    @property
    def start(self) -> int:
        return self.edge.start()

    def table(self) -> str:
        rows = "\n".join(f"<tr>{row}</tr>" for row in self.rows)
        return f"<table>\n{rows}\n</table>"

    def in_cell(self) -> str:
        return self.table() if self.lines is None else "<br>".join(self.lines)


def convert_tabulars(text: str) -> str:
    """A text with its LaTeX tabulars as HTML tables.

    Tabulars in code stay as they are, and so do mentions: what has no end and either no
    specification of columns or no row (after words on the same line: none that ends), and what
    goes on with a punctuation mark.

    Args:
        text: Markdown with LaTeX.
    """
    code = [(start, end) for start, end in code_spans(text) if _is_code(text[start:end])]
    found: list[_Tabular] = []
    opened: list[_Tabular] = []
    for edge in _EDGE.finditer(text):
        if edge["begin"]:
            at = edge.start("begin")
            opened.append(_Tabular(edge, any(begin <= at < end for begin, end in code)))
        elif opened:
            one = opened.pop()
            around = opened[-1].inner if opened else found
            is_mention = (one.inner and one.edge["columns"] is None) or (
                not opened and _is_mention(text, one, edge.start())
            )
            stays = one.in_code or is_mention
            if not stays and _convert(text, one, one.edge.end(), *edge.span()):
                around.append(one)
            else:
                around += one.inner
    for place, one in enumerate(opened):
        last = place + 1 == len(opened)
        found += _cut(text, one, len(text) if last else opened[place + 1].start)
    pieces: list[str] = []
    at = 0
    for one in sorted(found, key=lambda tabular: tabular.start):
        pieces += (text[at : one.start], one.table())
        at = one.end
    return "".join(pieces) + text[at:]


def _is_code(span: str) -> bool:
    """Whether it is a block, or code within a line; LaTeX also has backticks as quotes."""
    return "\n" not in span or CODE_FENCE.match(span) is not None


def _cut(text: str, one: _Tabular, stop: int) -> list[_Tabular]:
    """What a tabular without its end is: converted, with the tabulars after it; or these alone."""
    if one.in_code or one.edge["columns"] is None:
        return one.inner
    begin = at = one.edge.end()
    empty = _EMPTY_LINE.match(text, begin, stop)
    if empty:
        begin = at = empty.end()
    cells: list[_Tabular] = []
    limit = None
    for inner in one.inner:
        limit = _CUT.search(text, at, inner.start)
        if limit or not _is_in_cell(text, inner):
            stop = inner.start
            break
        cells.append(inner)
        at = inner.end
    limit = limit or _CUT.search(text, at, stop)
    stop = limit.start() if limit else stop
    if empty:
        is_table = text[one.start - 1 : one.start] in {"", "\n"} and _ROW.search(text, begin, stop)
    elif _is_in_prose(text, one):
        is_table = _ROW.search(text, begin, stop)
    else:
        is_table = _SEPARATOR.search(text, begin, stop)
    following = one.inner[len(cells) :]
    if not is_table or _MENTION.match(text, one.edge.end(), stop):
        return one.inner
    one.inner = cells
    return [one, *following] if _convert(text, one, begin, stop, stop) else [*cells, *following]


def _is_mention(text: str, one: _Tabular, stop: int) -> bool:
    r"""Whether prose names `\begin{tabular}{ll}` and `\end{tabular}`: not around a table."""
    begin = one.edge.end()
    if one.inner:
        return False
    is_empty = _SEPARATOR.search(text, begin, stop) is None
    return bool(_MENTION.match(text, begin, stop)) or (is_empty and _is_in_prose(text, one))


def _is_in_prose(text: str, one: _Tabular) -> bool:
    """Whether words are before a tabular on its line, beside commands."""
    line = text[text.rfind("\n", 0, one.start) + 1 : one.start]
    return any(map(str.isalnum, _COMMAND.sub("", line))) and not line.rstrip().endswith("&")


def _is_in_cell(text: str, inner: _Tabular) -> bool:
    """Whether a tabular is in a cell of the one around it, which has no end."""
    before = text[max(0, inner.start - 40) : inner.start].rstrip()
    return before.endswith("&") or _AFTER_CELL.match(text, inner.end) is not None


def _convert(text: str, one: _Tabular, begin: int, stop: int, end: int) -> bool:
    """Sets the rows of a tabular and where it ends; False if it has no row.

    Args:
        text: The text.
        one: The tabular.
        begin: Where its rows begin.
        stop: Where they end.
        end: Where it ends, without the end of its `table`.
    """
    table_end = _TABLE_END.match(text, end) if one.edge["table"] else None
    one.end = table_end.end() if table_end else end
    inner = deque(one.inner)
    lines: list[str] = []
    has_one_column = True
    head: int | None = None
    for row in _row_spans(text, one.inner, begin, stop):
        first = text[slice(*row[0])]
        if "\\endhead" in first and head is not None:
            _drop_repeated_head(one.rows, head)
        if "\\endfirsthead" in first:
            head = len(one.rows)
        if len(row) == 1 and not _RULE.sub("", first).strip():
            continue
        cells = ""
        for start, after in row:
            within = []
            while inner and inner[0].start < after:
                within.append(inner.popleft())
            content, span = _cell(text, start, after, within)
            cells += f"<td{span}>{content}</td>"
            lines.append(content)
            has_one_column &= len(row) == 1 and not span
        one.rows.append(cells)
    one.lines = lines if has_one_column else None
    return bool(one.rows)


def _drop_repeated_head(rows: list[str], head: int) -> None:
    """Drop the rows from `head` on if they only repeat the head of a long table on its next pages.

    Args:
        rows: The first head, then that of the next pages.
        head: Number of rows of the first head.
    """
    if all(row in rows[:head] for row in rows[head:]):
        del rows[head:]


def _row_spans(
    text: str, inner: list[_Tabular], begin: int, stop: int
) -> Iterator[list[tuple[int, int]]]:
    """Start and end of the cells of each row; what separates cells of inner tabulars does not."""
    row: list[tuple[int, int]] = []
    cell = at = begin
    for gap_end, following in [*((one.start, one.end) for one in inner), (stop, stop)]:
        for found in _SEPARATOR.finditer(text, at, gap_end):
            row.append((cell, found.start()))
            cell = found.end()
            if found[0] != "&":
                yield row
                row = []
        at = following
    yield [*row, (cell, stop)]


def _cell(text: str, begin: int, end: int, inner: list[_Tabular]) -> tuple[str, str]:
    r"""HTML of a cell, and its `colspan`.

    Commands other than `\multicolumn`, `\caption` and rules stay.
    """
    if not inner and (caption := _CAPTION.fullmatch(text, begin, end)):
        return _escaped(caption[1]).strip(), ""
    spanned = _MULTICOLUMN.fullmatch(text, begin, end)
    if spanned and (not inner or inner[-1].end <= spanned.end(2)):
        begin, end = spanned.span(2)
    else:
        spanned = None
    content, at = "", begin
    for one in inner:
        content += _escaped(text[at : one.start]) + one.in_cell()
        at = one.end
    content += _escaped(text[at:end])
    return content.strip(), f' colspan="{spanned[1]}"' if spanned and spanned[1] != "1" else ""


def _escaped(text: str) -> str:
    return html.escape(re.sub(r"\\([&%$#_])", r"\1", _RULE.sub("", text)), quote=False)
