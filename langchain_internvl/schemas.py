"""JSON schemas that a grammar can guarantee.

A grammar lets through what fits a schema and nothing else, so every keyword must be one that it
can hold a model to. `check_schema` raises for the others, with the path where they stand.
Source of the keywords: JSON Schema 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_internvl.errors import SchemaError

Schema = Mapping[str, Any]

_NOTES = frozenset(
    {
        "$comment", "$id", "$schema", "default", "deprecated", "description", "discriminator",
        "example", "examples", "readOnly", "title", "writeOnly",
    }
)  # fmt: skip
"""Keywords that say something about values and constrain none."""

_DEFINITIONS = ("$defs", "definitions")

_OF_ANY = frozenset({"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", *_DEFINITIONS})

_OF_TYPE: Mapping[str, frozenset[str]] = {
    "object": frozenset(
        {
            "properties", "required", "additionalProperties", "propertyNames", "minProperties",
            "maxProperties",
        }
    ),
    "array": frozenset({"items", "prefixItems", "minItems", "maxItems"}),
    "string": frozenset({"minLength", "maxLength", "pattern", "format"}),
    "integer": frozenset(
        {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
    ),
    "number": frozenset({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}),
    "boolean": frozenset(),
    "null": frozenset(),
}  # fmt: skip
"""Keywords that a grammar holds a model to, by the type they belong to."""

_FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}
)
"""Formats of strings that a grammar knows."""

SUPPORTED = tuple(sorted(_OF_ANY | frozenset().union(*_OF_TYPE.values())))
"""All keywords that are guaranteed."""


def check_schema(schema: Schema) -> dict[str, Any]:
    """Check that a grammar can guarantee a schema.

    Args:
        schema: A JSON schema.

    Returns:
        The schema as grammars read it: without notes; objects take no properties but those that
        they name, unless `additionalProperties` says so; arrays take anything they do not forbid.

    Raises:
        SchemaError: It has a keyword that cannot be guaranteed, or is none; says where.
    """
    if not isinstance(schema, Mapping):
        raise SchemaError(f"a JSON schema is an object, not {schema!r}")
    try:
        copied = json.loads(json.dumps(schema))
    except (RecursionError, TypeError, ValueError) as error:
        raise SchemaError(f"the schema is no JSON: {error}") from error
    return _Checker(copied).check(copied, "$")


def patterns(schema: Any, path: str = "$") -> Iterator[tuple[str, str]]:
    """The regular expressions of a schema, each with the path where it stands."""
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name == "pattern" and isinstance(value, str):
                yield f"{path}.pattern", value
            else:
                yield from patterns(value, f"{path}.{name}")
    elif isinstance(schema, list):
        for index, value in enumerate(schema):
            yield from patterns(value, f"{path}[{index}]")


@dataclass(frozen=True)
class _Checker:
    root: Schema

    def check(self, schema: Any, path: str) -> dict[str, Any]:
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            problem = "allows nothing" if schema is False else f"is {schema!r}, no schema"
            raise SchemaError(f"{path} {problem}")
        kept = {name: value for name, value in schema.items() if name not in _NOTES}
        types = self._types(kept, path)
        self._refuse_unknown(kept, types, path)
        if "$ref" in kept:
            self._check_reference(kept, path)
        for name in _DEFINITIONS:
            if name in kept:
                kept[name] = self._each(kept[name], f"{path}.{name}")
        for name in ("anyOf", "oneOf", "allOf"):
            if name in kept:
                kept[name] = self._choices(kept, name, path)
        if "enum" in kept and not kept["enum"]:
            raise SchemaError(f"{path}.enum is empty, so nothing fits")
        self._check_string(kept, path)
        if "object" in types:
            self._check_object(kept, path)
        if "array" in types:
            self._check_array(kept, path)
        return kept

    def _types(self, schema: Schema, path: str) -> frozenset[str]:
        """The types that a schema names, or that its keywords are about."""
        named = schema.get("type")
        if named is None:
            return frozenset(
                kind for kind in ("object", "array", "string") if _OF_TYPE[kind] & schema.keys()
            ) or frozenset({"number"} if _OF_TYPE["integer"] & schema.keys() else ())
        kinds = [named] if isinstance(named, str) else named
        for kind in kinds:
            if kind not in _OF_TYPE:
                raise SchemaError(f"{path}.type: {kind!r} is no type of JSON")
        return frozenset(kinds)

    def _refuse_unknown(self, schema: Schema, types: frozenset[str], path: str) -> None:
        known = _OF_ANY.union(*(_OF_TYPE[kind] for kind in types))
        for name in schema.keys() - known:
            if name in SUPPORTED:
                kind = " or ".join(kind for kind in _OF_TYPE if name in _OF_TYPE[kind])
                raise SchemaError(
                    f"{path}.{name} is about type {kind}, and the type here is "
                    f"{' or '.join(sorted(types)) or 'any'}"
                )
            raise SchemaError(
                f"{path}.{name}: this keyword cannot be guaranteed; leave it out and check the "
                f"result, or use one of {', '.join(SUPPORTED)}"
            )

    def _check_reference(self, schema: Schema, path: str) -> None:
        beside = schema.keys() - {"$ref", *_DEFINITIONS}
        if beside:
            raise SchemaError(
                f"{path}.{min(beside)} stands beside a $ref, and only one of them would hold; "
                "write it into the definition"
            )
        reference = schema["$ref"]
        if not (isinstance(reference, str) and reference.startswith("#")):
            raise SchemaError(f"{path}.$ref: {reference!r} is not in this schema")
        self._resolve(reference, path)

    def _resolve(self, reference: str, path: str) -> Any:
        place: Any = self.root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(place, Mapping) or name not in place:
                raise SchemaError(f"{path}.$ref: there is no {reference}")
            place = place[name]
        return place

    def _choices(self, schema: Schema, name: str, path: str) -> list[dict[str, Any]]:
        options = schema[name]
        if not isinstance(options, list) or not options:
            raise SchemaError(f"{path}.{name} must be a list of schemas")
        if name == "allOf" and len(options) > 1:
            raise SchemaError(f"{path}.allOf: more than one schema at once cannot be guaranteed")
        beside = schema.keys() - {name, "type", *_DEFINITIONS}
        if beside:
            raise SchemaError(
                f"{path}.{min(beside)} stands beside {name}, and only one of them would hold; "
                f"write it into each schema of {name}"
            )
        if name == "oneOf" and not self._are_apart(options, path):
            raise SchemaError(
                f"{path}.oneOf: a value may fit several of these, and that it fits only one "
                "cannot be guaranteed; use anyOf, or give each a property with a const of its own"
            )
        return [self.check(one, f"{path}.{name}[{index}]") for index, one in enumerate(options)]

    def _are_apart(self, options: Sequence[Any], path: str) -> bool:
        """Whether no value fits two schemas: by their types, or by a property that all have."""
        seen = [
            self._resolve(one["$ref"], path) if isinstance(one, Mapping) and "$ref" in one else one
            for one in options
        ]
        if not all(isinstance(one, Mapping) for one in seen):
            return False
        types = [self._types(one, path) for one in seen]
        together = frozenset[str]().union(*types)
        overlap = {"integer", "number"} <= together
        if all(types) and len(together) == sum(map(len, types)) and not overlap:
            return True
        marked = [_marks(one) for one in seen]
        shared = set(marked[0]).intersection(*marked)
        return any(
            len(frozenset[str]().union(*(one[name] for one in marked)))
            == sum(len(one[name]) for one in marked)
            for name in shared
        )

    def _check_string(self, schema: Schema, path: str) -> None:
        if "format" in schema and schema["format"] not in _FORMATS:
            raise SchemaError(
                f"{path}.format: {schema['format']!r} cannot be guaranteed; known are "
                f"{', '.join(sorted(_FORMATS))}"
            )
        lengths = schema.keys() & {"minLength", "maxLength"}
        for one in schema.keys() & {"pattern", "format"}:
            if lengths:
                raise SchemaError(
                    f"{path}.{min(lengths)} stands beside {one}, and only one of them would hold; "
                    "write the length into a pattern, as in ^[a-z]{2,5}$"
                )
        if {"pattern", "format"} <= schema.keys():
            raise SchemaError(f"{path}.pattern stands beside format, and only one would hold")

    def _check_object(self, schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            schema["properties"] = self._each(schema["properties"], f"{path}.properties")
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties", not known)
        if isinstance(extra, Mapping):
            extra = self.check(extra, f"{path}.additionalProperties")
        schema["additionalProperties"] = extra
        if "propertyNames" in schema:
            names = self.check(schema["propertyNames"], f"{path}.propertyNames")
            schema["propertyNames"] = {"type": "string", **names}
        for name in schema.get("required", ()):
            if name not in known:
                raise SchemaError(
                    f"{path}.required: {name!r} is not in properties, so nothing says what it is"
                )

    def _check_array(self, schema: dict[str, Any], path: str) -> None:
        first = schema.get("prefixItems", [])
        if first:
            schema["prefixItems"] = [
                self.check(one, f"{path}.prefixItems[{index}]") for index, one in enumerate(first)
            ]
        rest = schema.get("items", True)
        schema["items"] = False if rest is False else self.check(rest, f"{path}.items")

    def _each(self, schemas: Any, path: str) -> dict[str, Any]:
        if not isinstance(schemas, Mapping):
            raise SchemaError(f"{path} must be an object of schemas")
        return {name: self.check(one, f"{path}.{name}") for name, one in schemas.items()}


def _marks(schema: Schema) -> dict[str, frozenset[str]]:
    """The values of properties that a schema requires and names one by one."""
    marks = {}
    for name in schema.get("required", ()):
        told = schema.get("properties", {}).get(name, {})
        if "const" in told or "enum" in told:
            values = [told["const"]] if "const" in told else told["enum"]
            marks[name] = frozenset(json.dumps(one, sort_keys=True) for one in values)
    return marks
