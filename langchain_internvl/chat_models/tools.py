"""Tool binding and structured output."""

from __future__ import annotations

from abc import ABC, abstractmethod
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


class ToolBinding(ABC):
    """Methods that bind tools and schemas, of a model and of one whose arguments a config sets."""

    @abstractmethod
    def _bind(self, settings: dict[str, Any]) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind settings after validation, so that invalid ones raise now."""

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools to the model.

        Decoding is constrained: the arguments of a tool call always match the tool's schema.

        Args:
            tools: Tools, functions, classes or schemas.
            tool_choice: "auto" (also None): text or tool calls; "any" or "required": tool calls
                only; the name of a tool: a call of that tool; "none": text only;
                `{"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [...]}}`,
                as OpenAI has it: only these tools may be called. All stay in the prompt, except
                at a server with messages, which gets the allowed tools only.
            parallel_tool_calls: Whether a reply may have several tool calls. None: yes, unless
                `tool_choice` requires a call.
            strict: True: a schema keyword that cannot be guaranteed raises; otherwise such
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

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: Method = "json_schema",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Constrain replies to values of a schema, and parse them.

        Args:
            schema: A JSON schema (replies are dictionaries), or a Python type (replies are its
                values): a pydantic model, a dataclass, a TypedDict, an Enum, a Literal, a Union,
                `list[...]`, `int`, `date` and all else that pydantic reads.
            method: "json_schema" adds the schema to the prompt; "json_mode" does not, so that your
                prompt describes the value; "function_calling" passes it as a tool and forces a
                call of it. Decoding is constrained to the schema with all three.
            include_raw: Return a dictionary of `raw` (the message), `parsed` and `parsing_error`.
            strict: True: keywords that cannot be guaranteed raise; False: they are ignored. None:
                the parser of a Python type checks them; in a JSON schema they raise.
            **kwargs: Settings of the calls.

        Raises:
            RequestError: The method is unknown, or `schema` is not a schema.
            SchemaError: A keyword of the schema cannot be guaranteed (the error gives its path),
                or values of the type cannot be written in JSON.
        """
        settings = ask_for(schema, method, strict=strict)
        traced = trace_of(schema, method, strict=strict)
        llm = self._bind({**kwargs, **settings}).bind(ls_structured_output_format=traced)
        parser = ValueParser(wanted=schema, is_call=method == "function_calling")
        return read_with(llm, parser, include_raw=include_raw)


class ToolMethods(ToolBinding, PreparedModel):
    """The chat model's methods that bind tools and schemas."""

    @override
    def _bind(self, settings: dict[str, Any]) -> Runnable[LanguageModelInput, AIMessage]:
        self._read_call(settings)
        return self.bind(**settings)
