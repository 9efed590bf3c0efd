"""Grammars of structured output and tool calls, as data.

A grammar is a structural tag of xgrammar (https://xgrammar.mlc.ai, "structural tag"), which can be
made, compared and cached without xgrammar. In place of its format for JSON schemas, which permits
white space, this package has its own, `{"type": "compact_json", ...}`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_internvl.reply_text.reasoning import CLOSE, OPEN

Format = dict[str, Any]
"""A format of xgrammar's structural tags, or `compact_json`, as a dictionary."""

COMPACT = "compact_json"
"""`type` of the format of a JSON value; its fields are `schema` and `separators`."""


@dataclass(frozen=True)
class Grammar:
    """A grammar that constrains a reply.

    Attributes:
        format: A `Format`, as JSON text.
        schema: The JSON schema of the reply, as JSON text, if the reply is exactly one JSON value;
            else None.
        allows_words: Whether the reply may also be free text. Engines without grammars may then
            ignore the grammar; their tool calls are validated after parsing.
    """

    format: str
    schema: str | None = None
    allows_words: bool = False


def json_grammar(schema: Mapping[str, Any], *, thinks: bool = False) -> Grammar:
    """A JSON value without insignificant white space.

    Args:
        schema: Its schema, from `check_schema`.
        thinks: Whether thoughts may precede the value.
    """
    value = compact_json(schema)
    return Grammar(
        _dump(_after_thoughts(value) if thinks else value), None if thinks else _dump(schema)
    )


def compact_json(schema: Mapping[str, Any], separators: Sequence[str] = (",", ":")) -> Format:
    """The format of a JSON value.

    Args:
        schema: Its schema, from `check_schema`.
        separators: Separators of items, and of key and value.
    """
    return {"type": COMPACT, "schema": schema, "separators": list(separators)}


def tag(begin: str, content: Format, end: str) -> Format:
    """Content between an opening and a closing string."""
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def call_or_words(
    tags: Sequence[Format], trigger: str, *, single_call: bool, thinks: bool = False
) -> Grammar:
    """Free text with optional tags (`tool_choice="auto"`).

    Args:
        tags: The tags of tool calls.
        trigger: Common beginning of all tags, after which the text must be a tag.
        single_call: End the reply after the first tag.
        thinks: Whether thoughts, in which tags are plain text, may precede the reply.
    """
    words: Format = {
        "type": "triggered_tags",
        "triggers": [trigger],
        "tags": list(tags),
        "at_least_one": False,
        "stop_after_first": single_call,
    }
    return Grammar(_dump(_after_thoughts(words) if thinks else words), allows_words=True)


def only_calls(
    tags: Sequence[Format], separator: str, *, single_call: bool, thinks: bool = False
) -> Grammar:
    """One or several tags, without other text (`tool_choice="required"`).

    Args:
        tags: The tags of tool calls.
        separator: Text between two tags.
        single_call: Allow one tag only.
        thinks: Whether thoughts may precede the tags.
    """
    calls: Format = {
        "type": "tags_with_separator",
        "tags": list(tags),
        "separator": separator,
        "at_least_one": True,
        "stop_after_first": single_call,
    }
    return Grammar(_dump(_after_thoughts(calls) if thinks else calls))


def call_or_json(
    tags: Sequence[Format],
    separator: str,
    schema: Mapping[str, Any],
    *,
    single_call: bool,
    thinks: bool = False,
) -> Grammar:
    """Tags or a JSON value: an agent's model calls tools until it returns its structured answer."""
    calls = json.loads(only_calls(tags, separator, single_call=single_call).format)
    either: Format = {"type": "or", "elements": [calls, compact_json(schema)]}
    return Grammar(_dump(_after_thoughts(either) if thinks else either))


def words_without(text: str) -> Grammar:
    """Free text without a certain substring."""
    return Grammar(_dump({"type": "any_text", "excludes": [text]}), allows_words=True)


def _after_thoughts(content: Format) -> Format:
    ends = [CLOSE + space for space in ("\n\n", "\n", "")]
    thoughts = {"type": "tag", "begin": OPEN, "content": {"type": "any_text"}, "end": ends}
    optional = {"type": "optional", "content": thoughts}
    return {"type": "sequence", "elements": [optional, content]}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
