"""Forced tool calls: enforced by a server as JSON, rendered in the model's tool format.

LMDeploy's server enforces a tool call with a grammar of its own parser, whose format may differ
from the model's, and it cannot enforce a certain tool. JSON schemas are enforced exactly. So a
forced call is requested as one JSON value, and gets the delimiters of the model's format here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from langchain_internvl.grammars.pointers import name_references, references, subschemas

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Delta
    from langchain_internvl.prompting.tool_formats import ToolFormat

_DEFINITIONS = {"$defs": "_", "definitions": "."}
"""Keywords of definitions. In the combined schema the names of a tool's definitions begin with its
number and this mark, since both keywords may define the same name.
"""

_IDENTIFIERS = ("$id", "$anchor")
"""Keywords that nothing refers to by now; an `$id` would move the references inside it."""

_WHOLE = "#"
"""Reference to the whole schema of a tool's arguments, of which the combined one is another."""


def call_schema(tools: Sequence[Mapping[str, Any]], format_: ToolFormat) -> str:
    """The JSON schema of a call of one of some tools, as JSON.

    Args:
        tools: Tool definitions in OpenAI's format.
        format_: The model's tool format.
    """
    definitions: dict[str, Any] = {}
    calls = [
        _call(tool["function"], str(number), format_, definitions)
        for number, tool in enumerate(tools)
    ]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return json.dumps({**schema, "$defs": definitions} if definitions else schema)


def _call(
    function: Mapping[str, Any], number: str, format_: ToolFormat, definitions: dict[str, Any]
) -> dict[str, Any]:
    arguments = deepcopy(function.get("parameters") or {"type": "object", "properties": {}})
    name_references(arguments)
    is_recursive = _WHOLE in references(arguments)
    _move_references(arguments, number, set())
    for keyword, mark in _DEFINITIONS.items():
        for name, value in (arguments.pop(keyword, None) or {}).items():
            definitions[number + mark + name] = value
    if is_recursive:
        definitions[_whole_name(number)] = arguments
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            format_.arguments_key: arguments,
        },
        "required": ["name", format_.arguments_key],
        "additionalProperties": False,
    }


def _whole_name(number: str) -> str:
    """Name of the whole schema of a tool's arguments; no other definition has it."""
    return f"{number}_"


def _move_references(schema: Any, number: str, seen: set[int]) -> None:
    """Point the references of a schema to the definitions of the combined one, in place.

    Args:
        schema: The schema; values such as `const` stay as they are.
        number: The tool's.
        seen: Identities of the schemas that are done; one may have several names.
    """
    if not isinstance(schema, dict) or id(schema) in seen:
        return
    seen.add(id(schema))
    for name in _IDENTIFIERS:
        schema.pop(name, None)
    reference = schema.get("$ref")
    if reference == _WHOLE:
        schema["$ref"] = f"#/$defs/{_whole_name(number)}"
    elif isinstance(reference, str):
        _, keyword, name = reference.split("/")  # as name_references writes them
        schema["$ref"] = f"#/$defs/{number}{_DEFINITIONS[keyword]}{name}"
    for _, one in subschemas(schema):
        _move_references(one, number, seen)


class CallFrame:
    """Adds the delimiters of a tool call to a reply that is one JSON value.

    Args:
        format_: The model's tool format.
    """

    def __init__(self, format_: ToolFormat) -> None:
        self._format = format_
        self._begun = False

    def around(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        """The same deltas with the delimiters before the first text and after the last.

        A reply that was cut off at its limit is not closed.
        """
        for delta in deltas:
            yield self.of(delta)

    def of(self, delta: Delta) -> Delta:
        """A delta with its delimiters; see `around`."""
        text = delta.text
        if text and not self._begun:
            self._begun = True
            text = self._format.open_call + text
        if delta.finish_reason == "stop":
            text += self._format.close_call
        return replace(delta, text=text)
