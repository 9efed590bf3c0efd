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
    called, requires_call = _tool_choice(settings.get("tool_choice"), list(tools))
    parallel = settings.get("parallel_tool_calls")
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


_KINDS: Mapping[str | None, str] = {
    None: "auto", "auto": "auto", "none": "none", "any": "required", "required": "required",
}  # fmt: skip


def _tool_choice(choice: Any, names: Sequence[str]) -> tuple[Sequence[str], bool]:
    """The tools that may be called, and whether a call is required.

    A string that is a keyword is read as the keyword, even if a tool has that name; a dictionary
    forces such a tool.
    """
    if isinstance(choice, Mapping) and choice.get("type") == _ALLOWED:
        return _allowed_tools(choice, names)
    is_named = False
    if isinstance(choice, Mapping):  # OpenAI's and Anthropic's
        kind = choice.get("type")
        named = choice.get("function", choice)
        is_named = isinstance(named, Mapping) and kind in {"function", "tool"}
        choice = named.get("name", "") if is_named else kind
    elif isinstance(choice, bool):
        choice = "any" if choice else "none"
    is_keyword = isinstance(choice, (str, type(None))) and choice in _KINDS and not is_named
    if choice in names and not is_keyword:
        return [choice], True
    if not is_keyword:
        if not names:
            raise RequestError(f"tool_choice is {choice!r}, and there are no tools")
        raise RequestError(
            f'tool_choice is auto, any, required, none, {{"type": "{_ALLOWED}", ...}} or the name '
            f"of a tool ({', '.join(names)}), not {choice!r}"
        )
    if _KINDS[choice] == "required" and not names:
        raise RequestError(f"tool_choice is {choice!r}, and there are no tools to call")
    kind = _KINDS[choice]
    return [] if kind == "none" else names, kind == "required"


_ALLOWED = "allowed_tools"
"""Type of a `tool_choice` that permits some of the tools.

All of them stay in the prompt, except at servers with messages; see `openai_tools`.
"""


def _allowed_tools(choice: Mapping[str, Any], names: Sequence[str]) -> tuple[Sequence[str], bool]:
    """The tools that an `allowed_tools` permits, and whether a call is required.

    OpenAI's chat completions have its fields in an object of the same name, its responses API has
    them beside `type`.
    """
    inner = choice.get(_ALLOWED, choice)
    fields = inner if isinstance(inner, Mapping) else {}
    mode, given = fields.get("mode"), fields.get("tools")
    if mode not in ("auto", "required"):
        raise RequestError(
            f'tool_choice: the mode of {_ALLOWED} is "auto" or "required", not {mode!r}; '
            "to forbid calls, take tool_choice='none'"
        )
    if isinstance(given, (str, Mapping)) or not isinstance(given, Sequence) or not given:
        raise RequestError(
            f"tool_choice: the tools of {_ALLOWED} are a list of at least one, not {given!r}"
        )
    allowed = [_allowed_name(one) for one in given]
    for name in allowed:
        if name not in names:
            raise RequestError(
                f"tool_choice: {_ALLOWED} names {name!r}{did_you_mean(name, names)}, and the tools "
                f"are {', '.join(names) or 'none'}"
            )
    return [name for name in names if name in allowed], mode == "required"


def _allowed_name(tool: Any) -> str:
    """The name of an allowed tool, in either of OpenAI's forms."""
    named = tool.get("function", tool) if isinstance(tool, Mapping) else None
    name = named.get("name") if isinstance(named, Mapping) else None
    if not isinstance(name, str) or tool.get("type") != "function":
        raise RequestError(
            f'tool_choice: a tool of {_ALLOWED} is {{"type": "function", "function": '
            f'{{"name": ...}}}} or {{"type": "function", "name": ...}}, not {tool!r}'
        )
    return name


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
