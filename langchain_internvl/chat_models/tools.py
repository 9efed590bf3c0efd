"""Bound settings, tools and structured output."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig
from langchain_core.runnables.retry import RunnableRetry
from langchain_core.tools import BaseTool
from typing_extensions import override

from langchain_internvl.chat_models.alternatives import AlternativesMethod, added
from langchain_internvl.chat_models.base import PreparedModel
from langchain_internvl.tool_calling.response_format import RESPONSE_SETTINGS
from langchain_internvl.tool_calling.structured_output import (
    Method,
    ValueParser,
    ask_for,
    read_with,
    trace_of,
)
from langchain_internvl.tool_calling.tool_definitions import to_openai_tool

if TYPE_CHECKING:  # the class that LangChain's models return, whose events are typed
    from langchain_core.language_models.chat_models import _ChatModelBinding as Binding
else:
    Binding = RunnableBinding[LanguageModelInput, AIMessage]

_TRACED_FORMAT = "ls_structured_output_format"
"""Binding of a schema for LangChain's traces, which is no setting of a call."""


class ToolBinding(ABC):
    """Methods that bind tools and schemas to a model, be it configurable or with bound settings."""

    @abstractmethod
    def bind(self, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind settings of the calls; see `Runnable.bind`."""

    @abstractmethod
    def _check(self, settings: dict[str, Any]) -> None:
        """Raise if settings of a call are invalid."""

    def with_listeners(self, *args: Any, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """Call functions when a run begins and ends; see `Runnable.with_listeners`."""
        return self.bind().with_listeners(*args, **kwargs)

    def with_types(self, *args: Any, **kwargs: Any) -> Runnable[LanguageModelInput, AIMessage]:
        """State other types of inputs and outputs; see `Runnable.with_types`."""
        return self.bind().with_types(*args, **kwargs)

    def _bind(self, settings: dict[str, Any]) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind settings after validation, so that invalid ones raise now."""
        self._check(settings)
        return self.bind(**settings)

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
        llm = self._bind({**kwargs, **settings}).bind(**{_TRACED_FORMAT: traced})
        parser = ValueParser(wanted=schema, is_call=method == "function_calling")
        return read_with(llm, parser, include_raw=include_raw)


class BoundModel(AlternativesMethod, Binding, ToolBinding):
    """A model with settings, tools or a config, to which tools and schemas are bound in addition.

    LangChain's own class binds them to the model without its settings, which then have no effect,
    and counts and renders prompts without them. Newly bound tools or a schema replace earlier ones.
    """

    @classmethod
    @override
    def lc_id(cls) -> list[str]:
        """Stored as LangChain's own class."""
        return RunnableBinding.lc_id()

    @override
    def _check(self, settings: dict[str, Any]) -> None:
        self._model._check(settings)  # noqa: SLF001 - the model's own check

    @override
    def _bind(self, settings: dict[str, Any]) -> BoundModel:
        replaced = {*RESPONSE_SETTINGS, _TRACED_FORMAT}
        kept = {name: value for name, value in self.kwargs.items() if name not in replaced}
        both = {**kept, **settings}
        self._check(both)
        return BoundModel(**{**dict(self), "kwargs": both})

    def render(self, messages: LanguageModelInput, *, expand: bool = False, **kwargs: Any) -> str:
        """The exact prompt of messages with the bound settings; see the model's own `render`."""
        rendered: str = self._model.render(messages, expand=expand, **self._settings(kwargs))
        return rendered

    def prompt_ids(self, messages: LanguageModelInput, **kwargs: Any) -> list[int]:
        """The exact token ids of messages; see `render`."""
        ids: list[int] = self._model.prompt_ids(messages, **self._settings(kwargs))
        return ids

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """The exact number of prompt tokens of messages; see `render`."""
        given = {} if tools is None else {"tools": tools}
        return len(self.prompt_ids(messages, **given)) if messages else 0

    @property
    def _model(self) -> Any:
        """The model itself; `with_retry` puts a `RunnableRetry` before it."""
        model: Runnable[LanguageModelInput, AIMessage] = self.bound
        while isinstance(model, RunnableRetry):
            model = model.bound
        return model

    def _settings(self, given: dict[str, Any]) -> dict[str, Any]:
        """The bound settings with those of a call."""
        both = {**self.kwargs, **given}
        return {name: value for name, value in both.items() if name != _TRACED_FORMAT}


class ToolMethods(ToolBinding, PreparedModel):
    """The chat model's methods that bind settings, tools and schemas."""

    @override
    def bind(self, **kwargs: Any) -> BoundModel:
        return BoundModel(bound=self, kwargs=kwargs, config={})

    @override
    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> BoundModel:
        own = added(config, cast("RunnableConfig", kwargs))
        return BoundModel(bound=self, kwargs={}, config=own)

    @override
    def _check(self, settings: dict[str, Any]) -> None:
        self._read_call(settings)
