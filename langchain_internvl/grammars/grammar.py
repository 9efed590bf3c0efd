"""What a reply may be: the grammars of structured output and tool calls.

A grammar is a structural tag of xgrammar (https://xgrammar.mlc.ai, "structural tag"), as data: it
can be made, compared and cached without xgrammar. Where that takes a JSON schema, ours has a format
of its own, `{"type": "compact_json", ...}`, as xgrammar's lets white space through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_internvl.reply_text.reasoning import CLOSE, OPEN

Format = dict[str, Any]
"""A format of xgrammar's structural tags, or `compact_json`."""

COMPACT = "compact_json"
"""Type of the format of a JSON value: `schema`, and the `separators` of items and keys."""


@dataclass(frozen=True)
class Grammar:
    """What a reply may be.

    Attributes:
        format: A `Format`, as JSON.
        schema: The JSON schema of the reply, as JSON, if it is one value of it and nothing else.
        allows_words: Whether words of any kind are let through too, so that an engine that cannot
            follow it may leave it: what it makes is read with care all the same.
    """

    format: str
    schema: str | None = None
    allows_words: bool = False


def json_grammar(schema: Mapping[str, Any], *, thinks: bool = False) -> Grammar:
    """A JSON value, without white space between its parts.

    Args:
        schema: Its schema, as `check_schema` gives it.
        thinks: Whether thoughts may come before it.
    """
    value = compact_json(schema)
    return Grammar(
        _dump(_after_thoughts(value) if thinks else value), None if thinks else _dump(schema)
    )


def compact_json(schema: Mapping[str, Any], separators: Sequence[str] = (",", ":")) -> Format:
    """The format of a JSON value.

    Args:
        schema: Its schema, as `check_schema` gives it.
        separators: Between two items, and between key and value.
    """
    return {"type": COMPACT, "schema": schema, "separators": list(separators)}


def tag(begin: str, content: Format, end: str) -> Format:
    """Something between a beginning and an end."""
    return {"type": "tag", "begin": begin, "content": content, "end": end}


def call_or_words(
    tags: Sequence[Format], trigger: str, *, single_call: bool, thinks: bool = False
) -> Grammar:
    """Words, and tags wherever the model begins one.

    Args:
        tags: The tags.
        trigger: What they all begin with.
        single_call: End the reply after a tag.
        thinks: Whether thoughts, in which tags are words, may come before it.
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
    """One or several tags and nothing else.

    Args:
        tags: The tags.
        separator: Between two of them.
        single_call: Allow one only.
        thinks: Whether thoughts may come before them.
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
    """Tags, or a JSON value: an agent's model calls tools until it has its answer."""
    calls = json.loads(only_calls(tags, separator, single_call=single_call).format)
    either: Format = {"type": "or", "elements": [calls, compact_json(schema)]}
    return Grammar(_dump(_after_thoughts(either) if thinks else either))


def words_without(text: str) -> Grammar:
    """Words that do not have a certain text in them."""
    return Grammar(_dump({"type": "any_text", "excludes": [text]}), allows_words=True)


def _after_thoughts(content: Format) -> Format:
    ends = [CLOSE + space for space in ("\n\n", "\n", "")]
    thoughts = {"type": "tag", "begin": OPEN, "content": {"type": "any_text"}, "end": ends}
    optional = {"type": "optional", "content": thoughts}
    return {"type": "sequence", "elements": [optional, content]}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
