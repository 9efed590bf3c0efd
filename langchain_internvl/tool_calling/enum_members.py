"""Validators that read members of enums and literals from JSON, at any depth of a type.

pydantic does not read back all members that it writes: JSON spells a date or a tuple, the value of
a member, as text or as a list, and the key of a dictionary always as text; pydantic compares the
values alone.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError, SchemaValidator, to_jsonable_python

_JSON_TYPES = (str, int, float, bool, type(None))

_NO_SCHEMAS = frozenset(
    {"cls", "config", "default", "expected", "members", "metadata", "serialization"}
)
"""Fields of core schemas that hold values."""

_BY_NAME = frozenset({"choices", "fields"})
"""Fields of core schemas that hold schemas by names of the user's own, such as "default"."""


class Validator(Protocol):
    """The methods that `TypeAdapter` and `SchemaValidator` share."""

    def validate_python(self, value: Any, /) -> Any:
        """Validate a Python value."""

    def validate_json(self, value: str, /) -> Any:
        """Validate a value in JSON."""


def validator_of(adapter: TypeAdapter[Any]) -> Validator:
    """The validator of a type, which also reads members that JSON spells differently.

    Args:
        adapter: Adapter of the type. It is returned itself if the type has no such members.
    """
    core: Any = adapter.core_schema
    named = core.get("definitions", ()) if core.get("type") == "definitions" else ()
    changed = _with_members(core, {one["ref"]: one for one in named})
    if changed is core:
        return adapter
    try:
        # pydantic 2.10 and later would use the validators of nested models, without the change.
        return SchemaValidator(changed, _use_prebuilt=False)
    except TypeError:
        return SchemaValidator(changed)


def spell(value: Any) -> str:
    """JSON in which equal values are equal texts: 2.0 is 2."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def spell_member(value: Any) -> str:
    """JSON of a member of an enum, or of a value of a Literal."""
    return spell(to_jsonable_python(value.value if isinstance(value, enum.Enum) else value))


def as_name(value: Any) -> str:
    """The name that spells a JSON value as a key: text as it is, other values as JSON."""
    return value if isinstance(value, str) else spell(value)


_Definitions = Mapping[str, Mapping[str, Any]]
"""Core schemas by the names that others refer to them by."""


def _with_members(schema: Any, definitions: _Definitions) -> Any:
    """A core schema that looks members up by their JSON; the same object if it has none."""
    if isinstance(schema, Mapping):
        parts = {name: _part_with_members(name, one, definitions) for name, one in schema.items()}
        names = _names(schema.get("keys_schema"), definitions)
        if names:
            parts["keys_schema"] = _looked_up(parts["keys_schema"], names, as_name)
        is_changed = any(parts[name] is not schema[name] for name in parts)
        values = _members(schema)
        if not values:
            return parts if is_changed else schema
        reference = {"ref": parts.pop("ref")} if "ref" in parts else {}
        return {**_looked_up(parts, values, spell), **reference}
    if isinstance(schema, (list, tuple)):
        items = [_with_members(one, definitions) for one in schema]
        is_changed = any(new is not old for new, old in zip(items, schema, strict=True))
        return type(schema)(items) if is_changed else schema
    return schema


def _part_with_members(name: str, part: Any, definitions: _Definitions) -> Any:
    """The part of a core schema with this name."""
    if name in _NO_SCHEMAS:
        return part
    if name in _BY_NAME and isinstance(part, Mapping):
        named = {key: _with_members(one, definitions) for key, one in part.items()}
        return named if any(named[key] is not part[key] for key in part) else part
    return _with_members(part, definitions)


def _looked_up(
    schema: Mapping[str, Any], values: Mapping[str, Any], spelling: Callable[[Any], str]
) -> dict[str, Any]:
    """A core schema before which values are looked up by how they are spelled."""

    def find(value: Any) -> Any:
        try:
            return values.get(spelling(value), value)
        except (TypeError, ValueError):  # a Python value that JSON does not have
            return value

    function = {"type": "no-info", "function": find}
    return {"type": "function-before", "function": function, "schema": schema}


def _known(schema: Mapping[str, Any]) -> Sequence[Any]:
    """The members of an enum's core schema, or the values of a literal's."""
    field = {"enum": "members", "literal": "expected"}.get(schema.get("type", ""))
    known: Sequence[Any] = schema.get(field, ()) if field else ()
    return known


def _names(keys: Any, definitions: _Definitions) -> Mapping[str, Any]:
    """Members that are keys by the names that spell them, if some are no text; else empty.

    Args:
        keys: The core schema of a dictionary's keys; None: it has none.
        definitions: What it may refer to.
    """
    if not isinstance(keys, Mapping):
        return {}
    known = _known(definitions.get(keys.get("schema_ref", ""), keys))
    try:
        names = {one: json.loads(spell_member(one)) for one in known}
    except (PydanticSerializationError, TypeError, ValueError):  # reported with the schema
        return {}
    if all(isinstance(one, str) and _is_read(member) for member, one in names.items()):
        return {}
    return {as_name(one): member for member, one in names.items()}


def _members(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Members by their JSON, if pydantic would not read them; else empty."""
    known = _known(schema)
    if all(_is_read(one) for one in known):
        return {}
    try:
        return {spell_member(one): one for one in known}
    except (PydanticSerializationError, TypeError, ValueError):  # reported with the schema
        return {}


def _is_read(member: Any) -> bool:
    value = member.value if isinstance(member, enum.Enum) else member
    # The value of an enum of strings is a string, and so is the member.
    return type(value) in _JSON_TYPES
