"""Structured output: the settings that request it, and the parser of its replies."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from operator import itemgetter
from typing import Any, Literal

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import add_ai_message_chunks
from langchain_core.output_parsers import BaseTransformOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableLambda,
    RunnableMap,
    RunnablePassthrough,
)
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import PrivateAttr
from typing_extensions import override

from langchain_internvl.errors import RequestError
from langchain_internvl.reply_text.finish_reasons import advice_about
from langchain_internvl.reply_text.json_replies import read_json
from langchain_internvl.tool_calling.partial_json import PartialJson
from langchain_internvl.tool_calling.tool_definitions import name_of, to_json_schema
from langchain_internvl.tool_calling.value_types import ValueType, shown, to_value_type

Method = Literal["json_schema", "function_calling", "json_mode"]

_ANY_OBJECT: Mapping[str, Any] = {"type": "object"}


def ask_for(schema: Any, method: Method, *, strict: bool | None) -> dict[str, Any]:
    """The settings of a call whose reply is a value of a schema.

    Args:
        schema: A class or a JSON schema; None: any object.
        method: "json_schema" adds the schema to the prompt, "json_mode" does not,
            "function_calling" passes it as a tool and forces a call. All constrain decoding.
        strict: True: keywords that cannot be guaranteed raise; False: they are not enforced; None:
            they are left to the parser for a class, and raise for a JSON schema, which nothing
            else checks.

    Raises:
        RequestError: `schema` is not a schema, or the method is unknown.
        SchemaError: The type cannot be described by a JSON schema.
    """
    if schema is None and method != "json_mode":
        raise RequestError(f"method={method!r} needs a schema")
    kind = to_value_type(schema)
    if not (kind or schema is None or isinstance(schema, (BaseTool, Mapping)) or callable(schema)):
        raise RequestError(f"{schema!r} is no schema: give a JSON schema or a Python type")
    json_schema = _schema_of(schema, kind)
    if strict is None:
        strict = kind is None and not _is_v1(schema)
    named = {"name": _name_of(schema, kind), "strict": strict}
    if method == "json_mode":
        form: dict[str, Any] = {
            "type": "json_object",
            "schema": json_schema,
            "strict": named["strict"],
        }
        return {"response_format": form}
    if method == "json_schema":
        form = {"type": "json_schema", "json_schema": {**named, "schema": json_schema}}
        return {"response_format": form}
    if method != "function_calling":
        raise RequestError(f"method is json_schema, function_calling or json_mode, not {method!r}")
    about = {"description": json_schema["description"]} if json_schema.get("description") else {}
    parameters = json_schema if kind is None or kind.is_object else kind.arguments
    function = {**named, **about, "parameters": parameters}
    choice = {"type": "function", "function": {"name": named["name"]}}
    return {"tools": [{"type": "function", "function": function}], "tool_choice": choice}


def _name_of(schema: Any, kind: ValueType | None) -> str:
    return kind.name if kind else name_of(schema)


def _is_v1(schema: Any) -> bool:
    """Whether a schema that is no type of values is a class of pydantic.v1."""
    return isinstance(schema, type) and is_basemodel_subclass(schema)


def _schema_of(schema: Any, kind: ValueType | None) -> Mapping[str, Any]:
    """The JSON schema that is sent to the model."""
    if schema is None:
        return _ANY_OBJECT
    # LangChain knows descriptions in the annotations of a TypedDict.
    return to_json_schema(schema) if kind is None or kind.is_partial else kind.schema


def trace_of(schema: Any, method: Method, *, strict: bool | None) -> dict[str, Any]:
    """The schema for LangChain's traces, as a function if they cannot represent it."""
    kind = to_value_type(schema)
    if not (kind is None or kind.is_partial or is_basemodel_subclass(schema)) or not _is_traced(
        schema
    ):
        schema = {"name": _name_of(schema, kind), "parameters": dict(_schema_of(schema, kind))}
    return {"kwargs": {"method": method, "strict": strict}, "schema": schema}


def _is_traced(schema: Any) -> bool:
    """Whether LangChain's traces can represent a schema."""
    try:
        convert_to_json_schema(schema)
    except (AttributeError, LookupError, RecursionError, TypeError, ValueError):
        return False
    return True


def read_with(
    llm: Runnable[Any, AIMessage], parser: ValueParser, *, include_raw: bool
) -> Runnable[Any, Any]:
    """A model and the parser of its replies, as LangChain chains them.

    Args:
        llm: The model, bound to the settings of `ask_for`.
        parser: Parser of the replies.
        include_raw: Return a dictionary of `raw`, `parsed` and `parsing_error`, without raising
            for unparsable replies. When streaming, `raw` comes in chunks and the others last.
    """
    if not include_raw:
        return llm | parser

    def parse(message: BaseMessage, config: RunnableConfig) -> Any:
        return None if error_of(message) else parser.invoke(message, config)

    def error_of(message: BaseMessage) -> Exception | None:
        try:
            parser.read(message)
        except Exception as error:  # noqa: BLE001 - whatever a class raises
            return error
        return None

    raw = itemgetter("raw")
    return RunnableMap(raw=llm) | RunnablePassthrough.assign(
        parsed=raw | RunnableLambda(parse), parsing_error=raw | RunnableLambda(error_of)
    )


class ValueParser(BaseTransformOutputParser[Any]):
    """Parses the value of a reply, from its text or from the arguments of its tool call.

    When streaming, a JSON schema or a TypedDict yields growing partial values, the last of which
    is complete. Other types yield one complete value.

    Attributes:
        wanted: The schema; values of a Python type are its instances.
        is_call: Whether the value is the arguments of a call.
    """

    wanted: Any = None
    is_call: bool = False
    _kind: ValueType | None = PrivateAttr(default=None)

    @override
    def model_post_init(self, context: Any, /) -> None:
        self._kind = to_value_type(self.wanted)

    @property
    def called(self) -> str:
        """Name of the tool whose arguments are the value."""
        return _name_of(self.wanted, self._kind)

    @property
    @override
    def OutputType(self) -> Any:
        return dict[str, Any] if self.is_partial else self.wanted

    @property
    def is_partial(self) -> bool:
        """Whether a stream yields partial values."""
        return not _is_v1(self.wanted) if self._kind is None else self._kind.is_partial

    @override
    def parse(self, text: str) -> Any:
        return self._value(text, "")

    @override
    def parse_result(self, result: list[Generation], *, partial: bool = False) -> Any:
        if not isinstance(result[0], ChatGeneration):
            return self.parse(result[0].text)
        return self.read(result[0].message)

    def read(self, message: BaseMessage) -> Any:
        """The value of a complete reply.

        Raises:
            OutputParserException: The reply is not a JSON value or does not call the tool, or the
                value does not match the type.
        """
        advice = advice_about(message.response_metadata.get("finish_reason"))
        hint = f"; it was {advice}" if advice else ""
        if not self.is_call:
            return self._value(message.text, hint)
        calls = message.tool_calls if isinstance(message, AIMessage) else []
        # Servers without constrained decoding may call another tool than they are asked to.
        args = next((one["args"] for one in calls if one["name"] == self.called), None)
        if args is not None:
            return self._made(self._kind.from_arguments(args) if self._kind else args, hint)
        others = ", ".join(one["name"] for one in calls)
        reason = f"calls {others}, not {self.called}" if others else "calls no tool"
        raise OutputParserException(f"the reply {reason}{hint}", llm_output=message.text)

    def _value(self, text: str, hint: str) -> Any:
        try:
            value = read_json(text)
        except ValueError as error:
            raise OutputParserException(
                f"the reply is no JSON ({error}){hint}", llm_output=text
            ) from error
        return self._made(value, hint)

    def _made(self, value: Any, hint: str) -> Any:
        try:
            if self._kind is not None:
                return self._kind.read(value)
            return value if self.is_partial else self.wanted.parse_obj(value)  # pydantic.v1
        except ValueError as error:  # pydantic's own derives from it
            said = json.dumps(value, ensure_ascii=False, default=str)
            raise OutputParserException(
                f"the reply does not fit {shown(self.wanted)}: {error}{hint}", llm_output=said
            ) from error

    # LangChain adds up the input of a stream for its traces, which parses the arguments of a call
    # anew with each chunk. So the traced input is the JSON text alone.

    @override
    def transform(
        self,
        input: Iterator[str | BaseMessage],
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[Any]:
        growing = _Growing(self)
        yield from self._transform_stream_with_config(
            map(growing.read, input), growing.values, config, run_type="parser", **kwargs
        )

    @override
    async def atransform(
        self,
        input: AsyncIterator[str | BaseMessage],
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        growing = _Growing(self)
        texts = (growing.read(chunk) async for chunk in input)
        async for value in self._atransform_stream_with_config(
            texts, growing.avalues, config, run_type="parser", **kwargs
        ):
            yield value


class _Growing:
    """The value of a reply while it streams, in time linear in its length."""

    def __init__(self, parser: ValueParser) -> None:
        self._parser = parser
        self._chunks: list[AIMessageChunk] = []
        self._partial = PartialJson()
        self._call: list[Any] = []  # index of the call whose arguments are the value, once known
        self._given = False  # whether a value was given

    def read(self, chunk: str | BaseMessage) -> str:
        """Add a chunk of the reply; returns its JSON text: of the tool's call, or of the answer."""
        if not isinstance(chunk, AIMessageChunk):
            text = chunk if isinstance(chunk, str) else chunk.text
            calls = chunk.tool_calls if isinstance(chunk, AIMessage) else []
            about = {} if isinstance(chunk, str) else chunk.response_metadata
            chunk = AIMessageChunk(content=text, tool_calls=calls, response_metadata=about)
        self._chunks.append(chunk)
        if not self._parser.is_call:
            return str(chunk.text)
        pieces = chunk.tool_call_chunks
        called = self._parser.called
        if not self._call:
            self._call = [one["index"] for one in pieces if one["name"] == called][:1]
        # Calls of a message that comes whole have no index.
        own = (one for one in pieces if one["index"] in self._call)
        return "".join(one["args"] or "" for one in own if one["name"] in {None, "", called})

    def values(self, texts: Iterator[Any]) -> Iterator[Any]:
        """The value whenever it has changed, and at the end."""
        for text in texts:
            yield from self._add(text)
        yield from self._end()

    async def avalues(self, texts: AsyncIterator[Any]) -> AsyncIterator[Any]:
        """See `values`."""
        async for text in texts:
            for value in self._add(text):
                yield value
        for value in self._end():
            yield value

    def _add(self, text: str) -> Iterator[Any]:
        if self._parser.is_partial and self._partial.push(text):
            value = self._partial.value()
            if value is not None:
                self._given = True
                yield value

    def _end(self) -> Iterator[Any]:
        first, *others = self._chunks or [AIMessageChunk(content="")]
        value = self._parser.read(add_ai_message_chunks(first, *others))
        if not self._given or [value] != [self._partial.value()]:
            yield value
