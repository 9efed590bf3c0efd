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

from langchain_internvl.grammars.pointers import name_references, references

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Delta
    from langchain_internvl.prompting.tool_formats import ToolFormat

_DEFINITIONS = ("$defs", "definitions")

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
        _call(tool["function"], f"{number}_", format_, definitions)
        for number, tool in enumerate(tools)
    ]
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    return json.dumps({**schema, "$defs": definitions} if definitions else schema)


def _call(
    function: Mapping[str, Any], prefix: str, format_: ToolFormat, definitions: dict[str, Any]
) -> dict[str, Any]:
    parameters = deepcopy(function.get("parameters") or {"type": "object", "properties": {}})
    name_references(parameters)
    for name in _DEFINITIONS:
        for key, value in (parameters.get(name) or {}).items():
            definitions[prefix + key] = _renamed(value, prefix)
    own = {name: value for name, value in parameters.items() if name not in _DEFINITIONS}
    arguments = _renamed(own, prefix)
    if _WHOLE in references(parameters):
        definitions[prefix] = arguments
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            format_.arguments_key: arguments,
        },
        "required": ["name", format_.arguments_key],
        "additionalProperties": False,
    }


def _renamed(value: Any, prefix: str) -> Any:
    """A schema whose references point to the definitions of the combined schema."""
    if isinstance(value, list):
        return [_renamed(one, prefix) for one in value]
    if not isinstance(value, Mapping):
        return value
    renamed = {name: _renamed(one, prefix) for name, one in value.items()}
    reference = value.get("$ref")
    if reference == _WHOLE:
        renamed["$ref"] = f"#/$defs/{prefix}"
    elif isinstance(reference, str):
        for name in _DEFINITIONS:
            start = f"#/{name}/"
            if reference.startswith(start):
                renamed["$ref"] = f"#/$defs/{prefix}{reference.removeprefix(start)}"
    return renamed


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
