"""Converts the table formats of models to Markdown with HTML tables.

| form | from |
|---|---|
| the whole reply in a code fence | most chat models |
| `<html>`, `<body>` around, `border`, `style`, `class` inside | models trained on web pages |
| Markdown tables of pipes | most chat models |
| OTSL: `<fcel>a<fcel>b<nl>`, `<lcel>`, `<ucel>`, `<xcel>` | models of the docling family |
| LaTeX `tabular`, `tabularx`, `longtable`, `tabu`, `tblr` and the like | models trained on papers |
| truncated tables | replies that reached their limit |

Only structure changes: the text of cells is kept unchanged.
"""

from __future__ import annotations

import html
import re

from langchain_internvl.documents.html_tables import clean_tables
from langchain_internvl.documents.latex_tables import convert_tabulars
from langchain_internvl.documents.markdown_code import CODE_FENCE

_FENCE = re.compile(
    r"\A\s*(`{3,}|~{3,})[ \t]*(?:markdown|md|html|text|latex)?[ \t]*\n(.*?)\n?(?:\1\s*)?\Z",
    re.DOTALL | re.IGNORECASE,
)
_SHELL = re.compile(r"</?(?:html|body|head)(?:\s[^<>]*)?>|<!DOCTYPE[^<>]*>", re.IGNORECASE)
_RULE = re.compile(
    r"\s*(?:\|\s*)?:?-+:?\s*(?:\|\s*:?-+:?\s*)+(?:\|\s*)?"  # several columns
    r"|\s*\|\s*:?-+:?\s*\|\s*|\s*\|\s*:?-{2,}:?\s*|\s*:?-{2,}:?\s*\|\s*"  # one column
)
"""The rule below the head of a table of pipes (https://github.github.com/gfm/#delimiter-row)."""
_PIPES = re.compile(r"(?<!\\)\|")
_OTSL_KINDS = "fcel|ecel|lcel|ucel|xcel|ched|rhed|srow"
_OTSL_TEXT = rf"(?:[^<]|<(?!(?:{_OTSL_KINDS}|nl|/?otsl)>))*"
_OTSL_CELLS = rf"(?:<(?:{_OTSL_KINDS})>{_OTSL_TEXT})"
_OTSL_BODY = (
    rf"(?:{_OTSL_CELLS}*<nl>(?:\s*{_OTSL_CELLS}*<nl>)*(?:\s*{_OTSL_CELLS}+)?|{_OTSL_CELLS}+)"
)
_OTSL = re.compile(rf"(?:<otsl>\s*)?({_OTSL_BODY})(?:\s*</otsl>)?")
"""The text after a table without its tags begins after the end of the last row."""
_OTSL_CELL = re.compile(rf"<({_OTSL_KINDS}|nl)>({_OTSL_TEXT})")


def normalise_markup(text: str) -> str:
    """A page as Markdown whose tables are HTML of `table`, `tr`, `th` and `td` alone.

    Args:
        text: A model's reply.

    Returns:
        The same text without fences around all of it; every table in HTML, closed, with no
        attributes but `rowspan` and `colspan`. Text without tables comes back unchanged.
    """
    fenced = _FENCE.match(text)
    if fenced and fenced[1] not in fenced[2]:
        text = fenced[2]
    if "<" in text:
        text = _SHELL.sub("", text)
        text = _OTSL.sub(_from_otsl, text)
    if "\\begin{" in text:
        text = convert_tabulars(text)
    if "|" in text:
        text = _from_pipes(text)
    if "<table" in text.lower():
        text = clean_tables(text)
    return text.strip()


def _table(rows: list[list[str]], *, has_head: bool) -> str:
    """Rows of cells, which are HTML already, as a table."""
    lines = []
    for number, row in enumerate(rows):
        cell = "th" if has_head and number == 0 else "td"
        lines.append("<tr>" + "".join(f"<{cell}>{one}</{cell}>" for one in row) + "</tr>")
    return "<table>\n" + "\n".join(lines) + "\n</table>"


def _from_pipes(text: str) -> str:
    """Tables of pipes as HTML; a table begins with a row and the rule below it."""
    lines = text.split("\n")
    done: list[str] = []
    fence = ""
    at = 0
    while at < len(lines):
        line = lines[at]
        marks = CODE_FENCE.match(line)
        if marks and not fence:
            fence = marks[1]
        elif marks and marks[1].startswith(fence) and not marks[2].strip():
            fence = ""
        below = lines[at + 1] if at + 1 < len(lines) else ""
        if not fence and _is_head(line, below):
            end = at + 2
            while end < len(lines) and "|" in lines[end] and lines[end].strip():
                end += 1
            width = len(_cells(line))
            rows = [_cells(one) for one in (line, *lines[at + 2 : end])]
            rows = [row + [""] * (width - len(row)) for row in rows]
            done.append(_table(rows, has_head=True))
            at = end
            continue
        done.append(line)
        at += 1
    return "\n".join(done)


def _is_head(line: str, below: str) -> bool:
    """Whether a line is the head of a table: the line below it is a rule of as many columns."""
    if "|" not in line or _RULE.fullmatch(line) or not _RULE.fullmatch(below):
        return False
    return len(_cells(line)) == len(_cells(below))


def _cells(line: str) -> list[str]:
    line = line.strip()
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [one.strip().replace("\\|", "|") for one in _PIPES.split(line)]


def _from_otsl(match: re.Match[str]) -> str:
    """A table of OTSL (Lysak et al., "Optimized Table Tokenization", 2023) as HTML."""
    grid: list[list[tuple[str, str]]] = [[]]
    for kind, content in _OTSL_CELL.findall(match[1]):
        if kind == "nl":
            grid.append([])
        else:
            grid[-1].append((kind, html.escape(content.strip(), quote=False)))
    grid = [row for row in grid if row]
    rows = []
    for top, row in enumerate(grid):
        cells = []
        for left, (kind, content) in enumerate(row):
            if kind in {"lcel", "ucel", "xcel"}:
                continue
            across = _run(grid, top, left, (0, 1), {"lcel"})
            down = _run(grid, top, left, (1, 0), {"ucel"})
            spans = f' colspan="{across}"' * (across > 1) + f' rowspan="{down}"' * (down > 1)
            name = "th" if kind in {"ched", "rhed"} else "td"
            cells.append(f"<{name}{spans}>{content}</{name}>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return "<table>\n" + "\n".join(rows) + "\n</table>" if rows else match[0]


def _run(
    grid: list[list[tuple[str, str]]], top: int, left: int, step: tuple[int, int], kinds: set[str]
) -> int:
    """Number of cells that a cell spans in the direction `step` (rows, columns)."""
    count = 1
    while True:
        row, column = top + step[0] * count, left + step[1] * count
        if row >= len(grid) or column >= len(grid[row]) or grid[row][column][0] not in kinds:
            return count
        count += 1
