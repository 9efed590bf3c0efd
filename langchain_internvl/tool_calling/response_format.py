"""Response format of a call: text, tool calls, a JSON value, or one of several choices.

The settings have the names of OpenAI's API, which LangChain and its agents use.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.base import ToolChoice
from langchain_internvl.errors import RequestError, did_you_mean
from langchain_internvl.grammars.argument_schemas import check_arguments
from langchain_internvl.grammars.grammar import (
    Format,
    Grammar,
    call_or_json,
    call_or_words,
    compact_json,
    json_grammar,
    only_calls,
    tag,
    words_without,
)
from langchain_internvl.grammars.schemas import check_schema
from langchain_internvl.messages.conversation import Part, Text
from langchain_internvl.tool_calling.tool_choice import forbids_parallel_calls, read_tool_choice
from langchain_internvl.tool_calling.tool_definitions import to_openai_tool

if TYPE_CHECKING:
    from langchain_internvl.prompting.tool_formats import ToolFormat

RESPONSE_SETTINGS = ("tools", "tool_choice", "parallel_tool_calls", "response_format", "choices")
"""Settings of a call that define its response format."""

_ANSWER = "Answer with one JSON value and nothing else. It fits this JSON schema:\n"
_ANSWER_IN_THE_END = (
    "When no function needs to be called any more, answer with one JSON value and nothing else. "
    "It fits this JSON schema:\n"
)


@dataclass(frozen=True)
class ResponseFormat:
    """Response format of a call.

    Attributes:
        tools: Functions listed in the prompt, as OpenAI writes them.
        callable: Functions that may be called now: the checked schemas of their arguments, by name.
        requires_call: The reply is tool calls without text.
        single_call: At most one call.
        schema: Schema of the JSON value, unless the reply is a call; None: text.
        prompt_schema: The same schema as written in the prompt; None: it is not in the prompt.
        choices: Texts of which the reply is one; empty: any text.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    callable: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    requires_call: bool = False
    single_call: bool = False
    schema: Mapping[str, Any] | None = None
    prompt_schema: Mapping[str, Any] | None = None
    choices: tuple[str, ...] = field(default=())

    @property
    def is_plain(self) -> bool:
        """Whether the reply is text alone, which a stop string may end anywhere."""
        return not self.callable and self.schema is None

    @property
    def allows_text(self) -> bool:
        """Whether the reply may have text, which a stop string may end."""
        return not (self.requires_call or self.schema is not None)

    def grammar(self, tools: ToolFormat, *, thinks: bool) -> Grammar | None:
        """The grammar that a reply is decoded under; None: none is needed.

        Args:
            tools: The format of calls.
            thinks: Whether thoughts may precede the reply.
        """
        calls = [_call(name, schema, tools) for name, schema in self.callable.items()]
        if self.requires_call:
            return only_calls(calls, tools.between, single_call=self.single_call, thinks=thinks)
        if self.schema is not None and calls:
            return call_or_json(
                calls, tools.between, self.schema, single_call=self.single_call, thinks=thinks
            )
        if self.schema is not None:
            return json_grammar(self.schema, thinks=thinks)
        if calls:
            return call_or_words(calls, tools.trigger, single_call=self.single_call, thinks=thinks)
        return words_without(tools.trigger) if self.tools else None

    def instructions(self, tools: ToolFormat, close: str) -> list[Part]:
        """Instructions at the end of the system text.

        Args:
            tools: The format of calls.
            close: Text that ends a system turn.
        """
        parts = tools.write_tools(self.tools, close) if self.tools else []
        return [*parts, *self.schema_instructions()]

    def schema_instructions(self) -> list[Part]:
        """Instructions about the JSON value."""
        if self.prompt_schema is None:
            return []
        asked = _ANSWER_IN_THE_END if self.callable else _ANSWER
        return [Text("\n\n" + asked + json.dumps(self.prompt_schema, ensure_ascii=False))]

    @property
    def tool_choice(self) -> ToolChoice:
        """The `tool_choice` that is sent to servers."""
        return "required" if self.requires_call else "auto" if self.callable else "none"

    def openai_tools(self) -> list[dict[str, Any]]:
        """The tools as OpenAI writes them: the callable ones, or if none is, all of them.

        Servers know no `allowed_tools`, and would let the model call any tool that is sent.
        """
        offered = [one for one in self.tools if not self.callable or one["name"] in self.callable]
        return [{"type": "function", "function": dict(one)} for one in offered]


def _call(name: str, schema: Mapping[str, Any], tools: ToolFormat) -> Format:
    begin, end = tools.frame(name)
    return tag(begin, compact_json(schema, (", ", ": ")), end)


def read_response_format(settings: Mapping[str, Any]) -> ResponseFormat:
    """The response format that the settings of a call request.

    Args:
        settings: Those of `RESPONSE_SETTINGS` that are given.

    Raises:
        RequestError: The settings are inconsistent, or one is malformed.
        SchemaError: A schema cannot be guaranteed.
    """
    tools = _tools(settings.get("tools") or ())
    called, requires_call = read_tool_choice(settings.get("tool_choice"), list(tools))
    parallel = settings.get("parallel_tool_calls")
    if parallel is None and forbids_parallel_calls(settings.get("tool_choice")):
        parallel = False
    if not tools:
        _warn_of_unused(settings)
    schema, prompt_schema = _schema(settings.get("response_format"))
    choices = _choices(settings.get("choices"))
    if choices and (tools or schema is not None):
        raise RequestError("choices leave no room for tools or a response_format; ask twice")
    return ResponseFormat(
        tools=tuple(tool for tool, _ in tools.values()),
        callable={name: tools[name][1] for name in called},
        requires_call=requires_call,
        # A required call leaves the model no way to stop, so one call is the default.
        single_call=parallel is False or (requires_call and not parallel),
        schema=None if requires_call else schema,
        prompt_schema=None if requires_call else prompt_schema,
        choices=choices,
    )


def _warn_of_unused(settings: Mapping[str, Any]) -> None:
    """Warn about settings for tool calls if there are no tools."""
    unused = [
        name for name in ("tool_choice", "parallel_tool_calls") if settings.get(name) is not None
    ]
    if unused:
        warnings.warn(
            f"ChatInternVL: no effect without tools: {', '.join(unused)}; give tools= too, or "
            "bind_tools",
            stacklevel=2,
        )


def _tools(given: Sequence[Any]) -> dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """Functions by name, each with the checked schema of its arguments."""
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence):
        raise RequestError(f"tools is a list of tools, not {given!r}")
    tools: dict[str, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    for number, one in enumerate(given, 1):
        tool = to_openai_tool(one)["function"]
        name = tool["name"]
        if not name or not name.isprintable():
            raise RequestError(f"tool {number} is named {name!r}, which cannot be written")
        schema = check_arguments(tool["parameters"], strict=tool.get("strict") is True)
        if name in tools and schema != tools[name][1]:
            raise RequestError(f"two tools are named {name!r}, and no call could tell which")
        tools.setdefault(name, (tool, schema))
    return tools


def _schema(form: Any) -> tuple[Mapping[str, Any] | None, Mapping[str, Any] | None]:
    """The checked schema of a `response_format`, and the schema that the prompt shows."""
    if form is None:
        return None, None
    kind = form.get("type") if isinstance(form, Mapping) else None
    if kind == "text":
        return None, None
    for fields in (form, form.get("json_schema")) if isinstance(form, Mapping) else ():
        _warn_of_typos(fields)
    if kind == "json_object":  # as LMDeploy and llama.cpp take it, with or without a schema
        return _held(form.get("schema", {"type": "object"}), form.get("strict")), None
    inner = form.get("json_schema") if kind == "json_schema" else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("schema"), Mapping):
        raise RequestError(
            'response_format is {"type": "json_schema", "json_schema": {"schema": ...}}, '
            f'{{"type": "json_object"}} or {{"type": "text"}}, not {form!r}'
        )
    return _held(inner["schema"], inner.get("strict")), inner["schema"]


_FORMAT_FIELDS = ("type", "json_schema", "schema", "strict", "name", "description")


def _warn_of_typos(fields: Any) -> None:
    """Warn of unknown fields of a `response_format`, which have no effect."""
    for name in fields.keys() - set(_FORMAT_FIELDS) if isinstance(fields, Mapping) else ():
        hint = did_you_mean(name, _FORMAT_FIELDS)
        warnings.warn(f"response_format has no field {name!r}{hint}", stacklevel=4)


def _held(schema: Any, strict: Any) -> Mapping[str, Any]:
    """The part of a schema that decoding guarantees.

    Args:
        schema: The schema.
        strict: True raises for what cannot be guaranteed; False leaves it out; None, as in
            OpenAI's protocol, leaves it out too, and a warning names it.
    """
    left_out: list[str] = []
    checked = check_schema(schema, strict=strict is True, left_out=left_out)
    if left_out and strict is None:
        warnings.warn(
            f"response_format: {', '.join(dict.fromkeys(left_out))} cannot be guaranteed and is "
            'left to your validation; "strict": true raises instead, and "strict": false is silent',
            stacklevel=2,
        )
    return checked


_MOST_CHOICES = 256


def _choices(given: Any) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise RequestError(f"choices is a list of texts, not {given!r}")
    choices = tuple(given)
    if len(choices) > _MOST_CHOICES:
        raise RequestError(
            f"choices are at most {_MOST_CHOICES}, not {len(choices)}, each a pass of the "
            "model; take an enum in a schema (response_format) instead"
        )
    for choice in choices:
        if not isinstance(choice, str) or not choice or choice != choice.strip():
            raise RequestError(f"a choice is a text without white space around it, not {choice!r}")
    if len(set(choices)) < max(len(choices), 2):
        raise RequestError(f"choices are at least two different texts, not {list(choices)}")
    return choices
