r"""Regular expressions as grammar rules (EBNF) of the JSON strings that match them.

xgrammar's own conversion is not used: it drops the beginning of an optional group that ends in a
repetition (`a(\.[0-9]{1,6})?Z` accepts `a7Z`), ignores lookaround, and accepts lone surrogates.
These rules accept strings that match as a whole under both Python's and ECMA's semantics; where
the two differ, such as non-ASCII letters in `\w`, the smaller set is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from langchain_internvl.errors import SchemaError

try:
    from re import _constants as ops  # type: ignore[attr-defined, unused-ignore]
    from re import _parser as parser  # type: ignore[attr-defined, unused-ignore]
except ImportError:  # Python 3.10
    import sre_constants as ops  # type: ignore[no-redef, unused-ignore]
    import sre_parse as parser  # type: ignore[no-redef, unused-ignore]

Ranges = list[tuple[int, int]]

_ASCII, _LAST = 0x7F, 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_LINE_ENDS = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_SPACES = [(0x09, 0x0D), (0x1C, 0x20), (0x85, 0x85), (0xA0, 0xA0), (0x1680, 0x1680),
           (0x2000, 0x200A), (0x2028, 0x2029), (0x202F, 0x202F), (0x205F, 0x205F),
           (0x3000, 0x3000), (0xFEFF, 0xFEFF)]  # fmt: skip
_DIGITS = [(0x30, 0x39)]
_WORD = [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)]

_SHORT = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
"""JSON's escapes after a backslash, by character."""

_FLAGS = re.IGNORECASE | re.MULTILINE | re.VERBOSE | re.LOCALE


def pattern_rules(pattern: str, path: str) -> str:
    """The rule of the content (between the quotes) of a JSON string that matches a pattern.

    Args:
        pattern: A regular expression.
        path: Path of the pattern in the schema, for error messages.

    Raises:
        SchemaError: The pattern is malformed, or uses a feature that grammars cannot express.
    """
    try:
        parsed = parser.parse(pattern)
    except (OverflowError, RecursionError, re.error) as error:
        raise SchemaError(f"{path}: {pattern!r} is no regular expression: {error}") from error
    try:
        _refuse_flags(parsed.state.flags & _FLAGS)
        return _sequence(list(parsed), is_whole=True)
    except _BeyondGrammarError as error:
        raise SchemaError(
            f"{path}: {pattern!r} cannot be guaranteed: it has {error}; write out what it means"
        ) from error


_BEYOND = {
    ops.ASSERT: "lookaround",
    ops.ASSERT_NOT: "lookaround",
    ops.AT: "an anchor inside",
    ops.GROUPREF: "a reference",
}


class _BeyondGrammarError(Exception):
    """A feature of a pattern that grammars cannot express."""


def _sequence(items: Sequence[Any], *, is_whole: bool = False) -> str:
    """The rule of a sequence of parts.

    Args:
        items: The parts, as parsed by `re`.
        is_whole: Whether they are the whole pattern, so that anchors have no effect.
    """
    items = list(items)
    if is_whole:
        if items and items[0] == (ops.AT, ops.AT_BEGINNING):
            items = items[1:]
        if items and items[-1][0] is ops.AT and items[-1][1] is ops.AT_END:
            items = items[:-1]
    alone = is_whole and len(items) == 1
    rules = [_item(kind, value, is_whole=alone) for kind, value in items]
    return f"({' '.join(rules)})" if rules else '("")'


def _item(kind: Any, value: Any, *, is_whole: bool) -> str:  # noqa: PLR0911 - a table of kinds
    if kind is ops.LITERAL:
        return _characters([(value, value)])
    if kind is ops.NOT_LITERAL:
        return _characters(_complement([(value, value)]))
    if kind is ops.ANY:
        return _characters(_complement(_LINE_ENDS))
    if kind is ops.IN:
        return _characters(_members(value))
    if kind is ops.BRANCH:
        return f"({' | '.join(_sequence(one, is_whole=is_whole) for one in value[1])})"
    if kind is ops.SUBPATTERN:
        _refuse_flags(value[1] or value[2])
        return _sequence(value[-1], is_whole=is_whole)
    if kind in {ops.MAX_REPEAT, ops.MIN_REPEAT}:
        least, most, inner = value
        end = "" if most is ops.MAXREPEAT else str(int(most))
        return f"{_sequence(inner)}{{{int(least)},{end}}}"
    raise _BeyondGrammarError(_BEYOND.get(kind, str(kind).lower()))


def _refuse_flags(flags: int) -> None:
    if flags:
        raise _BeyondGrammarError("flags")


def _members(items: Sequence[Any]) -> Ranges:
    """The characters of a bracketed character class."""
    is_negated = bool(items) and items[0][0] is ops.NEGATE
    ranges: Ranges = []
    by_ascii = False
    for kind, value in items[is_negated:]:
        if kind is ops.LITERAL:
            ranges.append((value, value))
        elif kind is ops.RANGE:
            ranges.append(value)
        else:
            named, is_partial = _category(value, is_negated=is_negated)
            ranges += named
            by_ascii |= is_partial
    if not is_negated:
        return ranges
    return _complement(ranges, last=_ASCII if by_ascii else _LAST)


def _category(kind: Any, *, is_negated: bool) -> tuple[Ranges, bool]:
    r"""The characters of a shorthand class (such as `\d`).

    Args:
        kind: The shorthand, as parsed by `re`.
        is_negated: Whether it occurs in a negated character class.

    Returns:
        Its ASCII characters, and whether Unicode semantics add others.
    """
    if kind is ops.CATEGORY_SPACE:
        return _SPACES if is_negated else [(0x09, 0x0D), (0x20, 0x20)], False
    if kind is ops.CATEGORY_NOT_SPACE:
        return _complement(_SPACES), False
    if kind in {ops.CATEGORY_DIGIT, ops.CATEGORY_WORD}:
        return _DIGITS if kind is ops.CATEGORY_DIGIT else _WORD, True
    if is_negated:
        raise _BeyondGrammarError("what is not anything else")
    return _complement(_DIGITS if kind is ops.CATEGORY_NOT_DIGIT else _WORD, last=_ASCII), True


def _complement(ranges: Iterable[tuple[int, int]], *, last: int = _LAST) -> Ranges:
    """The complement of character ranges, up to a last character."""
    kept: Ranges = []
    start = 0
    for low, high in sorted(ranges):
        if low > start:
            kept.append((start, min(low - 1, last)))
        start = max(start, high + 1)
    if start <= last:
        kept.append((start, last))
    return [one for one in kept if one[0] <= one[1]]


def _characters(ranges: Ranges) -> str:
    """The rule of one character of a set, as written in a JSON string."""
    special = [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), _SURROGATES]
    plain: Ranges = []
    for low, high in _merged(ranges):
        start = low
        for first, last in special:
            if first > start and start <= high:
                plain.append((start, min(first - 1, high)))
            if first <= high:
                start = max(start, last + 1)
        if start <= high:
            plain.append((start, high))
    rules = (
        [f"[{''.join(f'{_code(one)}-{_code(other)}' for one, other in plain)}]"] if plain else []
    )
    for code in (*range(0x20), 0x22, 0x5C):
        if any(low <= code <= high for low, high in ranges):
            escaped = "\\" + _SHORT.get(code, f"u{code:04x}")
            rules.append(f'"{"".join(map(_code, map(ord, escaped)))}"')
    if not rules:
        raise _BeyondGrammarError("a class without characters")
    return f"({' | '.join(rules)})"


def _merged(ranges: Ranges) -> Ranges:
    merged: Ranges = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], high)
        else:
            merged.append((low, high))
    return merged


def _code(point: int) -> str:
    return f"\\u{point:04x}" if point <= 0xFFFF else f"\\U{point:08x}"
