"""Refuses tokenizers whose regular expressions could take exponential time.

`tokenizer.json` holds expressions that the `tokenizers` library matches by backtracking, without a
limit of time and without releasing the interpreter. Those of the supported model families repeat
characters and classes, but no groups, and at most two in a row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from langchain_internvl.errors import UnsupportedCheckpointError

_MOST_CHARACTERS = 4096
_MOST_REPEATS = 3
"""Maximum number of unbounded repeats in one alternative: the time grows with the length of the
text to this power."""

_MOST_CHOICES = 256
"""Maximum number of ways to take the optional items, short repeats and alternatives of groups that
are in one alternative: the time grows with it."""


def check_patterns(state: Mapping[str, Any]) -> None:
    """Check the regular expressions of a tokenizer.

    Args:
        state: The tokenizer as JSON, see `tokenizer.json`.

    Raises:
        UnsupportedCheckpointError: An expression repeats a group, refers to groups, or has too many
            repeats or choices.
    """
    for part in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        for pattern in _patterns(state.get(part)):
            is_long = len(pattern) > _MOST_CHARACTERS
            reason = "is too long" if is_long else why_slow(pattern)
            if reason:
                raise UnsupportedCheckpointError(
                    f"the tokenizer's {part} has the pattern {pattern[:80]!r}, which {reason}: "
                    "matching a text could take forever"
                )


def _patterns(value: Any) -> Iterator[str]:
    """All regular expressions below a component of a tokenizer."""
    if isinstance(value, dict):
        for name, one in value.items():
            if name == "Regex" and isinstance(one, str):
                yield one
            else:
                yield from _patterns(one)
    elif isinstance(value, list):
        for one in value:
            yield from _patterns(one)


def why_slow(
    pattern: str, *, most_repeats: int = _MOST_REPEATS, most_choices: int = _MOST_CHOICES
) -> str | None:
    """Why matching an expression could take very long; None: it could not.

    Args:
        pattern: The expression.
        most_repeats: Maximum number of unbounded repeats in one alternative.
        most_choices: Maximum number of ways to take the items in one alternative.
    """
    if _EXTENDED.search(pattern):
        return "has spaces and comments without meaning (x)"
    groups = [_Group()]
    before = ""
    for item in _items(pattern):
        if reason := _why_forbidden(item, before):
            return reason
        _count(item, before, groups)
        counts = [group.most() for group in groups]
        repeats = sum(one for one, _ in counts)
        choices = prod(one for _, one in counts)
        if repeats > most_repeats or choices > most_choices:
            return f"has {repeats} repeats and {choices} choices in a row"
        before = item
    return None


def _why_forbidden(item: str, before: str) -> str | None:
    """Why an item may not come after another one; None: it may."""
    if item[0] == "\\" and item[1:2] in {*"123456789gk"}:
        return "refers to a group"
    if _most_repeats(item) <= 1:
        return None
    if before == ")":
        return "repeats a group"
    # `a{1,3}+` is `(a{1,3})+` for the library; `a*+` is a possessive repeat.
    is_possessive = item == "+" and before in {"*", "+"}
    return "repeats a repeat" if _most_repeats(before) > 1 and not is_possessive else None


def _count(item: str, before: str, groups: list[_Group]) -> None:
    """Count an item in the open groups, of which the last is the innermost."""
    most = _most_repeats(item)
    if item == "(":
        groups.append(_Group())
    elif item == "|":
        groups[-1].end_alternative()
    elif item == ")" and len(groups) > 1:
        inner = groups.pop()
        repeats, choices = inner.most()
        groups[-1].add(repeats, choices * inner.alternatives)
    elif item == "?":
        groups[-1].add(0, 1 if before in {"(", "*", "+", "?"} else 2)
    elif most > _FEW:
        groups[-1].add(before not in {"*", "+"}, 1)  # `a*+` is one repeat
    elif most:
        groups[-1].add(0, int(most) - _least_repeats(item) + 1)


_EXTENDED = re.compile(r"\(\?[a-zA-Z]*x")
"""The option that lets spaces and comments stand between an item and its repeat."""


@dataclass
class _Group:
    """Repeats and choices of an open group: of its alternative, and most of those before."""

    repeats: int = 0
    choices: int = 1
    most_repeats: int = 0
    most_choices: int = 1
    alternatives: int = 1

    def add(self, repeats: int, choices: int) -> None:
        """Count items in the current alternative: their repeats, and the ways to take them."""
        self.repeats += repeats
        self.choices *= choices

    def most(self) -> tuple[int, int]:
        """Repeats and choices of the alternatives with the most of them."""
        return max(self.repeats, self.most_repeats), max(self.choices, self.most_choices)

    def end_alternative(self) -> None:
        """Begin the next alternative."""
        self.most_repeats, self.most_choices = self.most()
        self.repeats, self.choices = 0, 1
        self.alternatives += 1


def _items(pattern: str) -> Iterator[str]:
    """The items of an expression: escapes, classes, repeats, and other characters."""
    place = 0
    while place < len(pattern):
        end = place + 1
        if pattern[place] == "\\":
            end = place + 2
        elif pattern[place] == "[":
            end = _end_of_class(pattern, place)
        elif repeat := _REPEAT.match(pattern, place):
            end = repeat.end()
        yield pattern[place:end]
        place = end


_REPEAT = re.compile(r"\{[\d\s]*(?:,[\d\s]*)?\}")
"""A repeat by number. Braces with other content are literal text, or part of an escape."""


def _end_of_class(pattern: str, start: int) -> int:
    """The index after a character class, which may contain other classes."""
    depth, place = 0, start
    first = start + 1 + pattern.startswith("^", start + 1)
    while place < len(pattern):
        if pattern[place] == "\\":
            place += 1
        elif pattern[place] == "[":
            depth += 1
        elif pattern[place] == "]" and (place > first or depth > 1):
            depth -= 1
            if not depth:
                return place + 1
        place += 1
    return len(pattern)


_FEW = 3
"""Repeats up to this number, as of digits, count as choices; more count as unbounded."""


def _least_repeats(item: str) -> int:
    """How often a repeat by number, whose maximum is a few, repeats the item before it at least."""
    least, comma, most = (one.strip() for one in item[1:-1].partition(","))
    return min(int(least or 0), int(most)) if comma else int(least or 0)


def _most_repeats(item: str) -> float:
    """How often an item repeats the one before it at most; 0: it is no repeat."""
    if item in {"*", "+"}:
        return float("inf")
    if not (item.startswith("{") and item.endswith("}")):
        return 0
    least, comma, most = (one.strip() for one in item[1:-1].partition(","))
    if not all(one.isdecimal() for one in (least, most) if one):
        return 0  # literal text
    return float("inf") if comma and not most else float(most or least or 0)
