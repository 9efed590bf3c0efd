r"""Grammar rules (EBNF) of JSON values: xgrammar's rules, restricted where they are too permissive.

xgrammar permits raw control characters in strings of bounded length, which JSON forbids; lone
surrogates, which cannot be decoded; a `\u` escape of any character, so that a property may occur
twice (`"a"` and `"\u0061"`); and numbers with any number of digits.
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
"""Maximum number of digits of an integer, so that it fits 64 bits; weak models may not stop."""

_CHARACTER = re.compile(r'\[\^\\"\\\\\\r\\n\]')
"""A character of a string of bounded length, as xgrammar writes it."""

_CHARACTERS = re.compile(r'^(\w+) ::= \(\(\[\^\\"\\\\\\r\\n\]\)\)$', re.MULTILINE)
"""A rule that consists of such a string."""

_ANY = (
    r"[ -!#-\[\]-\x7f]|[\u0080-\u07ff]|[\u0800-\ud7ff]|[\ue000-\uffff]|[\u{10000}-\u{10ffff}]"
    r'|\\["\\bfnrt]|\\u00[01][0-9A-Fa-f]'
)
"""The correct pattern of a character: unescaped, or escaped if JSON requires it."""

_MOST_STATES = 64
"""Largest length bound of strings that may have escapes; each character is one grammar state."""

_DIGIT = re.compile(r"^(\w+) ::= \(\(\[0-9\]\)\)$", re.MULTILINE)
"""A rule that consists of one digit."""

_BYTE = re.compile(r"\\\\|\\x([0-9a-fA-F]{2})")
"""A Latin-1 character as xgrammar writes it, which it misreads before a digit; not a backslash."""

_MARK = re.compile(r'Regex\("\^mark(\d+)\$", json_string=true\)')
"""Placeholder of a pattern in xgrammar's rules."""

_LITERAL = re.compile(r'\[(?:[^\]\\]|\\.)*\]|("(?:[^"\\]|\\.)*")')
"""A literal; or a character class, whose quotes do not begin a literal."""

_HIDDEN = re.compile(r'"<(\d+)>"')
"""Placeholder of a literal."""

_NAMED = ("properties", "$defs", "definitions")
"""Keywords whose values map arbitrary names to schemas."""

_ESCAPES = re.compile(r"^basic_escape ::= .*$", re.MULTILINE)

_ESCAPE = r'(([\"\\bfnrt]) | ("u00" [01] [A-Fa-f0-9]))'
"""Escapes after a backslash: only for characters that must be escaped."""


def with_rules(form: Any) -> Any:
    """Replace `compact_json` in a format by rules for xgrammar.

    Raises:
        SchemaError: A schema cannot be converted to rules.
    """
    if isinstance(form, list):
        return [with_rules(one) for one in form]
    if not isinstance(form, dict):
        return form
    if form.get("type") == COMPACT:
        return {"type": "grammar", "grammar": json_rules(form["schema"], form["separators"])}
    return {name: with_rules(one) for name, one in form.items()}


def json_rules(schema: Mapping[str, Any], separators: Sequence[str]) -> str:
    """The rules of a JSON value in EBNF, without insignificant white space.

    Args:
        schema: Its schema, from `check_schema`.
        separators: Separators of items, and of key and value.

    Raises:
        SchemaError: The schema cannot be converted to rules.
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
    """Replace literals of the schema, which may look like rules, by placeholders.

    The literals are JSON strings, or values that contain some or have no letters.

    Returns:
        The rules with placeholders, and the literals.
    """
    literals: list[str] = []

    def hide(found: re.Match[str]) -> str:
        if not found[1] or '\\"' not in found[1]:
            return found[0]
        literals.append(found[1])
        return f'"<{len(literals) - 1}>"'

    return _LITERAL.sub(hide, rules), literals


def _with_characters(rules: str) -> str:
    """Restrict strings of bounded length to valid JSON.

    Strings of up to 64 characters may have characters that JSON escapes. Longer ones may not:
    otherwise each decode step would have to test every token of the vocabulary.
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
    """Replace the patterns of a schema by numbered placeholders.

    Returns:
        The schema, and the rules of the patterns.
    """
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
    except RuntimeError as error:  # the only type that xgrammar raises
        reason = str(error).splitlines()[0].rpartition(": ")[2]
        raise SchemaError(f"$: the schema cannot be guaranteed: {reason}") from error
