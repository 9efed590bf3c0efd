"""JSON schemas of Python types, with what pydantic's own schemas do not say of the types.

Decoding is constrained to the schema. So where pydantic writes the same schema for two types, such
as a date-time with a zone and one without, each reply might be one that the type refuses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from langchain_internvl.grammars.pointers import subschemas, target_of
from langchain_internvl.grammars.string_formats import DECIMAL, INTEGER, scheme_pattern
from langchain_internvl.tool_calling.enum_members import as_name

_WEB = frozenset({"http", "https"})

_KEYS: Mapping[str, Mapping[str, Any]] = {
    "bool": {"enum": ["true", "false"]},
    "decimal": {"pattern": DECIMAL},
    "float": {"pattern": DECIMAL},
    "int": {"pattern": INTEGER},
}
"""Schemas of the names that spell the keys of a dictionary, by the type of its core schema."""


def schema_of(adapter: TypeAdapter[Any]) -> dict[str, Any]:
    """The JSON schema of the values that a type reads.

    Args:
        adapter: Adapter of the type.
    """
    schema = adapter.json_schema(schema_generator=_TypeSchemas)
    _spell_names(schema, schema)
    return schema


class _TypeSchemas(GenerateJsonSchema):
    """Pydantic's generator; each method extends the one of the same name."""

    def datetime_schema(self, schema: Any) -> dict[str, Any]:
        written = super().datetime_schema(schema)
        if schema.get("tz_constraint") == "naive" and written.get("format") == "date-time":
            written["format"] = "date-time-local"
        return written

    def url_schema(self, schema: Any) -> dict[str, Any]:
        return _with_schemes(super().url_schema(schema), schema)

    def multi_host_url_schema(self, schema: Any) -> dict[str, Any]:
        return _with_schemes(super().multi_host_url_schema(schema), schema)

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        written = super().decimal_schema(schema)
        for one in written.get("anyOf", ()):
            if one.get("type") == "string":
                one.setdefault("pattern", DECIMAL)  # pydantic 2.13 and older have their own
        return written

    def dict_schema(self, schema: Any) -> dict[str, Any]:
        return self._with_names(super().dict_schema(schema), schema.get("keys_schema", {}))

    def _with_names(self, written: dict[str, Any], keys: Mapping[str, Any]) -> dict[str, Any]:
        """A schema of a dictionary that says how its keys are spelled."""
        patterns = written.pop("patternProperties", {})
        for pattern, values in patterns.items():  # other names are no keys of the type
            written |= {"propertyNames": {"pattern": pattern}, "additionalProperties": values}
        kind = str(keys.get("type"))
        if kind in _KEYS:
            written["propertyNames"] = dict(_KEYS[kind])
        elif kind == "literal":
            written["propertyNames"] = self.literal_schema(keys)  # type: ignore[arg-type] # core
        return written


def _with_schemes(written: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema of URLs that says which schemes the type has, if they are not those of the web."""
    schemes = schema.get("allowed_schemes")
    if schemes and not _WEB.intersection(schemes):
        written |= {"format": "uri", "pattern": scheme_pattern(schemes)}
        written.pop("minLength", None)
    return written


def _spell_names(schema: Any, root: Mapping[str, Any]) -> None:
    """Write the members of enums that are names of properties as names, in place."""
    if not isinstance(schema, dict):
        return
    names = schema.get("propertyNames")
    if isinstance(names, Mapping):
        if "$ref" in names:
            names = target_of(root, unquote(names["$ref"].removeprefix("#")))
        values = names.get("enum", [names["const"]] if "const" in names else [])
        if not all(isinstance(one, str) for one in values):
            schema["propertyNames"] = {"enum": [as_name(one) for one in values]}
    for _, one in subschemas(schema):
        _spell_names(one, root)
