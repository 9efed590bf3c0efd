"""Calls of tools that a server enforces as JSON, written as the model would have written them.

LMDeploy's server enforces that some tool is called by a grammar of its own parser, whose format
need not be the model's, and not which one. A JSON schema it enforces as it stands. So a forced call
is asked for as one JSON value, and framed here as the model's family frames its calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_internvl.backends.base import Delta
    from langchain_internvl.prompting.tool_formats import ToolFormat

_DEFINITIONS = ("$defs", "definitions")


def call_schema(tools: Sequence[Mapping[str, Any]], format_: ToolFormat) -> str:
    """The JSON schema of a call of one of some tools, as JSON.

    Args:
        tools: The tools, as OpenAI describes them.
        format_: How the model's family writes calls.
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
    parameters = function.get("parameters") or {"type": "object", "properties": {}}
    for name in _DEFINITIONS:
        for key, value in (parameters.get(name) or {}).items():
            definitions[prefix + key] = _renamed(value, prefix)
    own = {name: value for name, value in parameters.items() if name not in _DEFINITIONS}
    return {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            format_.arguments_key: _renamed(own, prefix),
        },
        "required": ["name", format_.arguments_key],
        "additionalProperties": False,
    }


def _renamed(value: Any, prefix: str) -> Any:
    """A schema whose references go to the definitions of the whole."""
    if isinstance(value, list):
        return [_renamed(one, prefix) for one in value]
    if not isinstance(value, Mapping):
        return value
    renamed = {name: _renamed(one, prefix) for name, one in value.items()}
    reference = value.get("$ref")
    if isinstance(reference, str):
        for name in _DEFINITIONS:
            start = f"#/{name}/"
            if reference.startswith(start):
                renamed["$ref"] = f"#/$defs/{prefix}{reference.removeprefix(start)}"
    return renamed


class CallFrame:
    """Puts the frame of a call around a reply that is one JSON value.

    Args:
        format_: How the model's family writes calls.
    """

    def __init__(self, format_: ToolFormat) -> None:
        self._format = format_
        self._begun = False

    def around(self, deltas: Iterable[Delta]) -> Iterator[Delta]:
        """The same deltas; the first with text opens the frame, a reply that is whole closes it."""
        for delta in deltas:
            yield self.of(delta)

    def of(self, delta: Delta) -> Delta:
        """A delta with its part of the frame; see `around`."""
        text = delta.text
        if text and not self._begun:
            self._begun = True
            text = self._format.open_call + text
        if delta.finish_reason == "stop":
            text += self._format.close_call
        return replace(delta, text=text)
