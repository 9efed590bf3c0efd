"""Tool binding and structured output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from typing_extensions import override

from langchain_internvl.chat_models.base import PreparedModel
from langchain_internvl.tool_calling.structured_output import (
    Method,
    ValueParser,
    ask_for,
    read_with,
    trace_of,
)
from langchain_internvl.tool_calling.tool_definitions import to_openai_tool


class ToolMethods(PreparedModel):
    """Methods that bind tools and schemas."""

    @override
    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Give the model tools to call.

        The arguments of a call fit the tool's schema: nothing else can be written.

        Args:
            tools: Tools, functions, classes or schemas.
            tool_choice: "auto" (also None): words or calls; "any" or "required": calls and
                nothing else; the name of a tool: a call of it; "none": words only.
            parallel_tool_calls: Whether a reply may call several times. None: only if it need not
                call at all.
            strict: True raises for a keyword of a schema that cannot be guaranteed; else such
                keywords are left to the tool's own validation.
            **kwargs: Settings of the calls.

        Raises:
            RequestError: The arguments do not fit together.
            SchemaError: A schema is malformed, or cannot be guaranteed and `strict` is True.
        """
        settings = {
            "tools": [to_openai_tool(tool, strict=strict) for tool in tools],
            "tool_choice": tool_choice,
            "parallel_tool_calls": parallel_tool_calls,
        }
        return self._bind({**kwargs, **{k: v for k, v in settings.items() if v is not None}})

    @override
    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Let replies be values of a schema: nothing else can be written.

        Args:
            schema: A JSON schema (replies are dictionaries), or a Python type (replies are its
                values): a pydantic model, a dataclass, a TypedDict, an Enum, a Literal, a Union,
                `list[...]`, `int`, `date` and all else that pydantic reads.
            method: "json_schema" tells the model the schema, "json_mode" leaves that to your
                prompt, "function_calling" tells it as a tool and forces a call of it.
            include_raw: Give a dictionary of `raw` (the message), `parsed` and `parsing_error`.
            strict: False: keywords that cannot be guaranteed are left out, else they raise.
            **kwargs: Settings of the calls.

        Raises:
            RequestError: There is no such method or schema.
            SchemaError: A keyword of the schema cannot be guaranteed, and says where it stands;
                or values of the type cannot be written in JSON.
        """
        settings = ask_for(schema, method, strict=strict)
        traced = trace_of(schema, method, strict=strict)
        llm = self._bind({**kwargs, **settings}).bind(ls_structured_output_format=traced)
        parser = ValueParser(wanted=schema, is_call=method == "function_calling")
        return read_with(llm, parser, include_raw=include_raw)

    def _bind(self, settings: dict[str, Any]) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind settings, of which what is wrong is told now."""
        self._read_call(settings)
        return self.bind(**settings)
