r"""The rules of a JSON value, made by xgrammar and narrowed where it lets too much through.

xgrammar lets a string of bounded length hold raw control characters, which JSON forbids; lets
half a surrogate pair through, which nobody can decode; spells any character by its number, so
that a property may be named twice (`"a"` and `"\u0061"`); and sets no end to the digits of a
number.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_internvl._optional import require
from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.grammar import COMPACT
from langchain_internvl.grammars.pattern_rules import pattern_rules

MOST_DIGITS = 18
"""Digits of a whole number, so that it fits 64 bits; a model without sense knows no end."""

_CHARACTER = re.compile(r'\[\^\\"\\\\\\r\\n\]')
"""A character of a string of bounded length, in xgrammar's words."""

_CHARACTERS = re.compile(r'^(\w+) ::= \(\(\[\^\\"\\\\\\r\\n\]\)\)$', re.MULTILINE)
"""A rule that is one."""

_ANY = (
    r"[ -!#-\[\]-\x7f]|[\u0080-\u07ff]|[\u0800-\ud7ff]|[\ue000-\uffff]|[\u{10000}-\u{10ffff}]"
    r'|\\["\\bfnrt]|\\u00[01][0-9A-Fa-f]'
)
"""The same as it should be, as a pattern: a character as it is, or escaped if it must be."""

_MOST_STATES = 64
"""Longest bound of a string that is compiled whole, with escapes: a state for each character."""

_DIGIT = re.compile(r"^(\w+) ::= \(\(\[0-9\]\)\)$", re.MULTILINE)
"""A rule that is one digit."""

_BYTE = re.compile(r"\\\\|\\x([0-9a-fA-F]{2})")
"""A character of Latin 1 as xgrammar writes it, and misreads it before a digit; no backslash."""

_MARK = re.compile(r'Regex\("\^mark(\d+)\$", json_string=true\)')
"""A pattern that stands for another, in xgrammar's words."""

_LITERAL = re.compile(r'\[(?:[^\]\\]|\\.)*\]|("(?:[^"\\]|\\.)*")')
"""A literal; or a class of characters, whose quotes begin none."""

_HIDDEN = re.compile(r'"<(\d+)>"')
"""A literal that stands for another."""

_NAMED = ("properties", "$defs", "definitions")
"""Keywords whose values are schemas by names of their own."""

_ESCAPES = re.compile(r"^basic_escape ::= .*$", re.MULTILINE)

_ESCAPE = r'(([\"\\bfnrt]) | ("u00" [01] [A-Fa-f0-9]))'
"""What may follow a backslash: what must be escaped, and nothing that has a form of its own."""


def with_rules(form: Any) -> Any:
    """A format with `compact_json` replaced by rules that xgrammar reads.

    Raises:
        SchemaError: A schema cannot be made into rules.
    """
    if isinstance(form, list):
        return [with_rules(one) for one in form]
    if not isinstance(form, dict):
        return form
    if form.get("type") == COMPACT:
        return {"type": "grammar", "grammar": json_rules(form["schema"], form["separators"])}
    return {name: with_rules(one) for name, one in form.items()}


def json_rules(schema: Mapping[str, Any], separators: Sequence[str]) -> str:
    """The rules of a JSON value in EBNF, without white space to wander in.

    Args:
        schema: Its schema, as `check_schema` gives it.
        separators: Between two items, and between key and value.

    Raises:
        SchemaError: It cannot be made into rules.
    """
    item, key = separators
    marked, patterns = _with_marks(schema)
    rules, literals = _without_literals(_rules(marked, item, key))
    rules = _ESCAPES.sub(lambda _: f"basic_escape ::= {_ESCAPE}", rules)
    rules = _with_characters(rules)
    rules = rules.replace(r"[^\0-\x1f\"\\", r"[^\0-\x1f\"\\\ud800-\udfff")
    rules = rules.replace('(", " basic_', f"({json.dumps(item)} basic_")
    rules = _with_few_digits(rules)
    rules = _HIDDEN.sub(lambda found: literals[int(found[1])], rules)
    rules = _BYTE.sub(lambda found: rf"\u00{found[1]}" if found[1] else found[0], rules)
    return _MARK.sub(lambda found: patterns[int(found[1])], rules)


def _without_literals(rules: str) -> tuple[str, list[str]]:
    """The rules without what a schema spells out, which may read like a rule, and those literals.

    They are JSON strings or hold some, or are values without letters that no rule is like.
    """
    literals: list[str] = []

    def hide(found: re.Match[str]) -> str:
        if not found[1] or '\\"' not in found[1]:
            return found[0]
        literals.append(found[1])
        return f'"<{len(literals) - 1}>"'

    return _LITERAL.sub(hide, rules), literals


def _with_characters(rules: str) -> str:
    """The rules with strings of bounded length held to JSON.

    A string of up to 64 characters may escape those that JSON escapes. In a longer one such
    characters are left out: to follow it, every token of a vocabulary would be tried at each step.
    """
    added: dict[str, str] = {}

    def bounded(found: re.Match[str]) -> str:
        least, most = int(found[2]), int(found[3])
        if max(least, most) > _MOST_STATES:
            return found[0]
        end = "" if most < 0 else str(most)
        name = f"characters_{least}_{end}"
        added[name] = _pattern(f"^({_ANY}){{{least},{end}}}$")
        return name

    for name in _CHARACTERS.findall(rules):
        rules = re.sub(rf"\b({name}){{(\d+), (-?\d+)}}", bounded, rules)
    rules = _CHARACTERS.sub(lambda found: rf"{found[1]} ::= (([^\0-\x1f\"\\]))", rules)
    if _CHARACTER.search(rules):
        added["one_character"] = _pattern(f"^({_ANY})$")
        rules = _CHARACTER.sub("one_character", rules)
    return rules + "".join(f"{name} ::= {rule}\n" for name, rule in added.items())


def _pattern(pattern: str) -> str:
    return f"Regex({json.dumps(pattern)})"


def _with_few_digits(rules: str) -> str:
    rules = re.sub(r"(basic_number_5 ::= .*){1, -1}", r"\g<1>{1, 2}", rules)
    for name in _DIGIT.findall(rules):
        rules = re.sub(rf"\b{name}{{([01]), -1}}", rf"{name}{{\1, {MOST_DIGITS - 1}}}", rules)
    return rules.replace("[1-9] [0-9]*", f"[1-9] [0-9]{{0, {MOST_DIGITS - 1}}}")


def _with_marks(schema: Any, path: str = "$") -> tuple[Any, list[str]]:
    """A schema whose patterns are numbered marks, and the rules of the patterns."""
    patterns: list[str] = []

    def mark(part: Any, path: str) -> Any:
        if isinstance(part, list):
            return [mark(one, f"{path}[{index}]") for index, one in enumerate(part)]
        if not isinstance(part, Mapping):
            return part
        marked: dict[str, Any] = {}
        for name, value in part.items():
            place = f"{path}.{name}"
            if name in _NAMED and isinstance(value, Mapping):
                marked[name] = {key: mark(one, f"{place}.{key}") for key, one in value.items()}
            elif name == "pattern":
                patterns.append(pattern_rules(value, place))
                marked[name] = f"^mark{len(patterns) - 1}$"
            else:
                marked[name] = value if name in {"const", "enum"} else mark(value, place)
        return marked

    return mark(schema, path), patterns


def _rules(schema: Mapping[str, Any], item: str, key: str) -> str:
    xgrammar = require("xgrammar", extra="transformers")
    try:
        return str(
            xgrammar.Grammar.from_json_schema(
                json.dumps(schema), any_whitespace=False, separators=(item, key)
            )
        )
    except RuntimeError as error:  # what it raises for everything
        reason = str(error).splitlines()[0].rpartition(": ")[2]
        raise SchemaError(f"$: the schema cannot be guaranteed: {reason}") from error
