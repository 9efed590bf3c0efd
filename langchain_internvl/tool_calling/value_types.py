"""Python types as the schema of a reply: models, dataclasses, Enum, Literal, Union, list[int], ...

pydantic writes their JSON schemas and reads their values. Members of an Enum and values of a
Literal are looked up by their JSON spelling instead: pydantic does not read back all that it
writes (an Enum of dates or tuples, a Literal of members).
"""

from __future__ import annotations

import enum
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import unquote

from langchain_core.tools import BaseTool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BaseModel, TypeAdapter
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError
from pydantic_core import PydanticSerializationError
from typing_extensions import NotRequired, Required, get_type_hints, is_typeddict

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.pointers import target_of
from langchain_internvl.tool_calling.enum_members import (
    Validator,
    spell,
    spell_member,
    validator_of,
)
from langchain_internvl.tool_calling.tool_definitions import is_read_by_langchain, to_json_schema
from langchain_internvl.tool_calling.type_schemas import schema_of
from langchain_internvl.tool_calling.typed_dicts import adapter_of, rebuild

WRAPPER = "value"
"""Name of the tool-call argument that holds a value which is not a JSON object."""

_DEFINITIONS = ("$defs", "definitions")

_NO_NAME = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class ValueType:
    """A Python type with its JSON schema and the parser of its values.

    Attributes:
        kind: The type.
        schema: Its JSON schema.
    """

    kind: Any
    schema: Mapping[str, Any]
    _validator: Validator = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The name of a class, with nothing but letters, digits, `_` and `-`; else "answer"."""
        bare = _bare(self.kind)
        is_named = _is_class(bare) and bare.__module__ != "builtins"
        name = bare.__name__ if is_named else ""
        return _NO_NAME.sub("_", name).strip("_")[:64] or "answer"

    @property
    def is_partial(self) -> bool:
        """Whether a stream yields partial values: it does for a TypedDict."""
        return is_typeddict(self.kind)

    @cached_property
    def is_object(self) -> bool:
        """Whether all values are JSON objects, as the arguments of a tool call are."""
        return _is_object(self.schema, self.schema, frozenset())

    @property
    def arguments(self) -> dict[str, Any]:
        """Schema of the tool-call arguments of a value: itself, or `{"value": ...}`."""
        if self.is_object:
            return dict(self.schema)
        inner = {name: one for name, one in self.schema.items() if name not in _DEFINITIONS}
        return {
            "type": "object",
            "properties": {WRAPPER: inner},
            "required": [WRAPPER],
            **{name: self.schema[name] for name in _DEFINITIONS if name in self.schema},
        }

    def from_arguments(self, arguments: Any) -> Any:
        """The JSON value of the arguments of a tool call; see `arguments`."""
        wrapped = isinstance(arguments, Mapping) and set(arguments) == {WRAPPER}
        return arguments[WRAPPER] if wrapped and not self.is_object else arguments

    def read(self, value: Any) -> Any:
        """The Python value of a JSON value.

        Raises:
            ValueError: The JSON value does not match the type (or pydantic's `ValidationError`).
        """
        return _read(self.kind, self._validator, value)


def to_value_type(schema: Any) -> ValueType | None:
    """A Python type as the schema of a reply.

    Args:
        schema: Anything that `with_structured_output` takes.

    Returns:
        The type; None for a JSON schema, a tool, a function and a class of pydantic.v1, of which
        `tool_definitions` writes the schema.

    Raises:
        SchemaError: Values of the type cannot be written in JSON.
    """
    if schema is None or isinstance(schema, (str, Mapping, BaseTool)) or inspect.isroutine(schema):
        return None
    if _is_class(schema) and is_basemodel_subclass(schema) and not issubclass(schema, BaseModel):
        return None  # pydantic.v1
    try:
        adapter = adapter_of(_as_langchain_reads(schema))
        return ValueType(schema, _schema_of(schema, adapter), validator_of(adapter))
    except (PydanticSchemaGenerationError, PydanticUserError) as error:
        if not _has_values(schema):
            return None
        raise SchemaError(f"{shown(schema)} cannot be written in JSON: {error}") from error
    except (NameError, PydanticSerializationError) as error:
        raise SchemaError(f"{shown(schema)} cannot be written in JSON: {error}") from error


def _as_langchain_reads(schema: Any) -> Any:
    """A TypedDict with the keys required that LangChain requires, any other type as it is.

    The second item of `Annotated[str | None, None, "the punchline"]` is LangChain's default of
    the key, which may then be absent; pydantic takes it for a mere note.
    """
    if not is_typeddict(schema) or not is_read_by_langchain(schema):
        return schema
    required = to_json_schema(schema).get("required", ())
    hints = get_type_hints(schema, include_extras=True)
    keys: dict[str, Any] = {
        name: Required[hint] if name in required else NotRequired[hint]
        for name, hint in hints.items()
    }
    return rebuild(schema, keys)


def _has_values(schema: Any) -> bool:
    """Whether something is a type of values for certain, and no class that is called as a tool."""
    is_model = _is_class(schema) and issubclass(schema, (BaseModel, enum.Enum))
    return is_model or get_origin(schema) is not None


def _is_class(kind: Any) -> bool:
    """Whether a type is a class; `list[int]` is none, though Python 3.10 takes it for one."""
    return isinstance(kind, type) and get_origin(kind) is None


def shown(kind: Any) -> str:
    """The name of a type in error messages."""
    return str(kind.__name__ if _is_class(kind) else kind)


def _schema_of(kind: Any, adapter: TypeAdapter[Any]) -> Mapping[str, Any]:
    schema = schema_of(adapter)
    values = _values(_bare(kind))
    if values is None:
        return schema
    if not values:
        raise SchemaError(f"{shown(kind)} has no members, so no reply could be one")
    spelled = [json.loads(one) for one in values]
    described = {name: one for name, one in _whole(schema).items() if name not in {"const", "enum"}}
    meanings = [
        f"{one}: {value.name}"
        for one, value in values.items()
        if isinstance(value, enum.Enum) and not isinstance(value.value, str)
    ]
    if meanings:  # numbers alone are meaningless to a model
        about = [described["description"]] if described.get("description") else []
        described["description"] = "\n".join([*about, ", ".join(meanings)])
    return {**described, "enum": spelled}


def _whole(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema in place of a reference to it, with what `Annotated` says beside the reference."""
    if "$ref" not in schema:
        return dict(schema)
    beside = {name: one for name, one in schema.items() if name not in {"$ref", "$defs"}}
    return {**schema["$defs"][schema["$ref"].rsplit("/", 1)[1]], **beside}


def _bare(kind: Any) -> Any:
    """A type without its annotations and other names."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif hasattr(kind, "__supertype__"):  # NewType
            kind = kind.__supertype__
        elif type(kind).__name__ == "TypeAliasType":
            kind = kind.__value__
        else:
            return kind


def _values(kind: Any) -> dict[str, Any] | None:
    """All values of an Enum or Literal by their JSON; None: it is neither.

    Raises:
        SchemaError: JSON spells two of them alike.
    """
    if _is_class(kind) and issubclass(kind, enum.Enum):
        known: list[Any] = list(kind)
    elif get_origin(kind) is Literal:
        known = list(get_args(kind))
    else:
        return None
    values: dict[str, Any] = {}
    for one in known:
        spelled = spell_member(one)
        if spelled in values:
            raise SchemaError(
                f"{shown(kind)}: JSON spells {values[spelled]!r} and {one!r} alike, {spelled}"
            )
        values[spelled] = one
    return values


def _read(kind: Any, validator: Validator, value: Any) -> Any:
    bare = _bare(kind)
    values = _values(bare)
    text = _to_json(value)
    if values is not None and text is not None and spell(value) in values:
        return validator.validate_python(values[spell(value)])
    try:
        # Strict classes take a date, a member or a tuple as JSON spells it from JSON alone.
        return validator.validate_python(value) if text is None else validator.validate_json(text)
    except ValueError:
        if get_origin(bare) not in {Union, UnionType}:
            raise
        for option in get_args(bare):
            if _values(_bare(option)) is not None:
                try:
                    return _read(option, validator_of(TypeAdapter(option)), value)
                except ValueError:
                    continue
        raise


def _to_json(value: Any) -> str | None:
    """A value as JSON text; None: JSON cannot represent it."""
    try:
        return json.dumps(value)
    except (RecursionError, TypeError, ValueError):
        return None


def _is_object(schema: Any, root: Mapping[str, Any], followed: frozenset[str]) -> bool:
    """Whether all values of a schema are objects.

    Args:
        schema: The schema.
        root: Schema in which its references are resolved.
        followed: References that were followed so far.
    """
    if not isinstance(schema, Mapping):
        return False
    if "$ref" in schema:
        reference = str(schema["$ref"])
        if reference in followed:
            return False
        try:
            target = target_of(root, unquote(reference.removeprefix("#")))
        except (LookupError, ValueError):
            return False
        return _is_object(target, root, followed | {reference})
    options = schema.get("anyOf", schema.get("oneOf"))
    if options:
        return all(_is_object(one, root, followed) for one in options)
    return schema.get("type") == "object"
