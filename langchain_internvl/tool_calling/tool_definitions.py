"""Converts tools and schemas of every kind that LangChain accepts to JSON.

Functions, classes and tools become tools in OpenAI's format; classes become the JSON schema of
their values. Recursive types keep their `$ref`, which LangChain's own helpers replace by an
unrestricted schema.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from langchain_core.tools import BaseTool, create_schema_from_function
from langchain_core.utils.function_calling import convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import to_jsonable_python
from typing_extensions import is_typeddict

from langchain_internvl.errors import RequestError, SchemaError, did_you_mean
from langchain_internvl.tool_calling.type_schemas import schema_of
from langchain_internvl.tool_calling.typed_dicts import adapter_of, has_other_keys


def to_openai_tool(tool: Any, *, strict: bool | None = None) -> dict[str, Any]:
    """A tool in OpenAI's format.

    Args:
        tool: A tool of LangChain, a function, a class of pydantic, a TypedDict, a JSON schema with
            a title, or a tool as OpenAI, Anthropic or Bedrock write it.
        strict: Whether all of its schema must be guaranteed; None: not said.

    Raises:
        RequestError: The value is not a tool, or the tool runs at another provider.
        SchemaError: The arguments cannot be described by a JSON schema.
    """
    if isinstance(tool, Mapping):
        _warn_of_typos(tool)
    if is_typeddict(tool) and not is_read_by_langchain(tool):
        parameters = _schema_of(tool)
        about = {"description": parameters.get("description", "")}
        tool = {"name": tool.__name__, **about, "parameters": parameters}
    try:
        described: dict[str, Any] = convert_to_openai_tool(tool)
    except (PydanticSchemaGenerationError, PydanticUserError, RecursionError) as error:
        raise SchemaError(
            f"the arguments of {tool!r} cannot be written in JSON: {error}"
        ) from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RequestError(f"{tool!r} is no tool: {error}") from error
    function = described.get("function", described)
    if described.get("type") != "function" or not isinstance(function.get("name"), str):
        raise RequestError(
            f"a tool of type {described.get('type')!r} runs at another provider; InternVL calls "
            "functions"
        )
    kept = {name: function[name] for name in ("name", "description", "strict") if name in function}
    whole = _arguments_model(tool)
    own = None if whole is None else whole.model_json_schema()
    parameters = own if own and _is_recursive(own) else function.get("parameters")
    kept["parameters"] = parameters or {"type": "object", "properties": {}}
    if is_typeddict(tool):
        try:
            kept = _without_doc_of_dict(to_jsonable_python(kept))
        except ValueError as error:  # PydanticSerializationError, of a member of an enum
            raise SchemaError(f"values of {tool!r} cannot be written in JSON: {error}") from error
    if strict is not None:
        kept["strict"] = strict
    return {"type": "function", "function": kept}


def _without_doc_of_dict(schema: Any) -> Any:
    """A schema without the documentation of `dict`.

    LangChain takes it for the description of a TypedDict without a docstring of its own.
    """
    if isinstance(schema, Mapping):
        return {
            name: _without_doc_of_dict(one)
            for name, one in schema.items()
            if name != "description" or one != _DOC_OF_DICT
        }
    return [_without_doc_of_dict(one) for one in schema] if isinstance(schema, list) else schema


_DOC_OF_DICT = inspect.getdoc(dict)

_TOOL_FIELDS = ("name", "description", "parameters", "strict", "input_schema", "type", "function")


def _warn_of_typos(tool: Mapping[Any, Any]) -> None:
    """Warn of misspelt fields of a tool, which would have no arguments without a word."""
    inner = tool.get("function")
    for fields in (tool, inner if isinstance(inner, Mapping) else {}):
        for name in fields:
            hint = "" if name in _TOOL_FIELDS else did_you_mean(name, _TOOL_FIELDS, cutoff=0.8)
            if hint:
                warnings.warn(f"a tool has no field {name!r}{hint}", stacklevel=4)


def to_json_schema(schema: Any) -> dict[str, Any]:
    """The JSON schema of a class, of a tool's arguments, or a given JSON schema itself.

    Raises:
        RequestError: The value is neither a class nor a schema.
        SchemaError: Values of the class cannot be described by a JSON schema.
    """
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return _schema_of(schema)
    if isinstance(schema, Mapping):
        named = schema.get("function", schema.get("json_schema", schema))
        for key in ("parameters", "input_schema", "schema"):
            inner = named.get(key)
            if "name" in named and isinstance(inner, Mapping):
                return dict(inner)
        if isinstance(named.get("name"), str) and not (_SHAPES & named.keys()):
            return {"type": "object", "properties": {}}  # a function without arguments
        return dict(schema)
    if is_typeddict(schema) and not is_read_by_langchain(schema):
        return _schema_of(schema)
    described = to_openai_tool(schema)["function"]
    title = {"title": described["name"]}
    description = {"description": described["description"]} if described.get("description") else {}
    return {**title, **description, **described["parameters"]}


_SHAPES = {"type", "properties", "anyOf", "oneOf", "allOf", "$ref", "enum", "const", "$defs"}
"""Keywords that define a schema's values; a dictionary with a name and none of them is a tool."""


def name_of(schema: Any) -> str:
    """The name of a schema."""
    if isinstance(schema, Mapping):
        named = schema.get("function", schema.get("json_schema", schema))
        name = named.get("name", named.get("title"))
        if name is None and isinstance(named.get("$ref"), str):  # pydantic's, of recursive models
            name = named["$ref"].rpartition("/$defs/")[2]
        return name if isinstance(name, str) and name else "answer"
    if isinstance(schema, BaseTool):
        return schema.name
    return str(getattr(schema, "__name__", None) or "answer")


def _schema_of(kind: type) -> dict[str, Any]:
    """The schema that pydantic writes of a class."""
    try:
        return schema_of(adapter_of(kind))
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        raise SchemaError(f"{kind.__name__} cannot be written in JSON: {error}") from error


def is_read_by_langchain(typed_dict: Any) -> bool:
    """Whether LangChain, which knows descriptions in annotations, reads a TypedDict.

    LangChain fails on `NotRequired` and on a TypedDict that contains itself, and does not know
    `extra_items`.
    """
    if has_other_keys(typed_dict):
        return False
    try:
        convert_to_openai_tool(typed_dict)
    except (RecursionError, TypeError, ValueError):
        return False
    return True


def _arguments_model(tool: Any) -> type[BaseModel] | None:
    """The class of a tool's arguments, if it has one."""
    if isinstance(tool, BaseTool):
        arguments: Any = tool.tool_call_schema
    elif isinstance(tool, type):
        arguments = tool
    elif callable(tool):
        arguments = create_schema_from_function(
            tool.__name__, tool, filter_args=(), include_injected=False
        )
    else:
        return None
    is_model = isinstance(arguments, type) and is_basemodel_subclass(arguments)
    return arguments if is_model and issubclass(arguments, BaseModel) else None


def _is_recursive(schema: Mapping[str, Any]) -> bool:
    """Whether a definition refers to itself, directly or through others."""
    leads = {name: set(_references(one)) for name, one in schema.get("$defs", {}).items()}
    for start, first in leads.items():
        reached: set[str] = set()
        ahead = first
        while ahead:
            reached |= ahead
            ahead = set().union(*(leads.get(name, ()) for name in ahead)) - reached
        if start in reached:
            return True
    return False


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"].rpartition("/")[2]
        for value in schema.values():
            yield from _references(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _references(value)
