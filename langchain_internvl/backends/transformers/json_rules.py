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
from langchain_internvl.grammar import COMPACT
from langchain_internvl.schemas import patterns

MOST_DIGITS = 18
"""Digits of a whole number, so that it fits 64 bits; a model without sense knows no end."""

_CHARACTER = re.compile(r'\(\(\[\^\\"\\\\\\r\\n\]\)\)')
"""A character of a string of bounded length, in xgrammar's words."""

_DIGIT = re.compile(r"^(\w+) ::= \(\(\[0-9\]\)\)$", re.MULTILINE)
"""A rule that is one digit."""

_LOOKS_AROUND = re.compile(r"\(\?<?[=!]")

_BEYOND_ASCII = re.compile(r"\\[WDS]|\[\^[^]]*\\[wds]")
"""What xgrammar reads by ASCII alone, and others by all of Unicode."""

_ESCAPES = re.compile(r"^basic_escape ::= .*$", re.MULTILINE)

_ESCAPE = r'(([\"\\bfnrt]) | ("u00" [01] [A-Fa-f0-9]))'
"""What may follow a backslash: what must be escaped, and nothing that has a form of its own."""


def with_rules(form: Any) -> Any:
    """A format with `compact_json` replaced by rules that xgrammar reads.

    Raises:
        SchemaError: A pattern is beyond xgrammar; says where it stands.
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
        SchemaError: A pattern is beyond xgrammar; says where it stands.
    """
    for path, pattern in patterns(schema):
        _check_pattern(pattern, path)
    rules = _rules(schema, separators)
    rules = _ESCAPES.sub(lambda _: f"basic_escape ::= {_ESCAPE}", rules)
    rules = _CHARACTER.sub(lambda _: r'(([^\0-\x1f\"\\]) | ("\\" basic_escape))', rules)
    rules = rules.replace(r"[^\0-\x1f\"\\", r"[^\0-\x1f\"\\\ud800-\udfff")
    rules = rules.replace('(", " basic_', f"({json.dumps(separators[0])} basic_")
    return _with_few_digits(rules)


def _with_few_digits(rules: str) -> str:
    rules = re.sub(r"(basic_number_5 ::= .*){1, -1}", r"\g<1>{1, 2}", rules)
    for name in _DIGIT.findall(rules):
        rules = re.sub(rf"\b{name}{{([01]), -1}}", rf"{name}{{\1, {MOST_DIGITS - 1}}}", rules)
    return rules.replace("[1-9] [0-9]*", f"[1-9] [0-9]{{0, {MOST_DIGITS - 1}}}")


def _check_pattern(pattern: str, path: str) -> None:
    if _LOOKS_AROUND.search(pattern):  # which xgrammar ignores
        raise SchemaError(f"{path}: {pattern!r} looks around, which cannot be guaranteed")
    if _BEYOND_ASCII.search(pattern):
        raise SchemaError(
            f"{path}: {pattern!r} cannot be guaranteed: write out what \\W, \\D and \\S mean"
        )
    # Otherwise xgrammar takes it for text as it stands, quotes and line ends included.
    if "json_string=true" not in _rules({"type": "string", "pattern": pattern}, (",", ":"), path):
        raise SchemaError(
            f"{path}: {pattern!r} cannot be guaranteed; leave out references, quotes and "
            "characters that are not printable ASCII"
        )


def _rules(schema: Mapping[str, Any], separators: Sequence[str], path: str = "$") -> str:
    xgrammar = require("xgrammar", extra="transformers")
    item, key = separators
    try:
        return str(
            xgrammar.Grammar.from_json_schema(
                json.dumps(schema), any_whitespace=False, separators=(item, key)
            )
        )
    except RuntimeError as error:  # what it raises for everything
        reason = str(error).splitlines()[0].rpartition(": ")[2]
        raise SchemaError(f"{path}: the schema cannot be guaranteed: {reason}") from error
