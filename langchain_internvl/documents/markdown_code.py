"""Finds code in Markdown: fenced blocks, and spans between backticks."""

from __future__ import annotations

import re

CODE_FENCE = re.compile(r"\s*(`{3,}(?!.*`)|~{3,})(.*)")
"""The line that opens or closes a block: its marks, and what follows them."""
_CODE = re.compile(
    r"^[ \t]*(`{3,}(?![^\n]*`)|~{3,})[^\n]*\n.*?(?:^[ \t]*\1[`~]*[ \t]*$|\Z)"
    r"|(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\2(?!`)",
    re.DOTALL | re.MULTILINE,
)
"""A line with more backticks after its first ones opens no block: they are a span."""


def code_spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each piece of code, in order; a block without its end goes to the last.

    Args:
        text: Markdown.
    """
    return [found.span() for found in _CODE.finditer(text)]
