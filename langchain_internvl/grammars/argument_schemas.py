"""Schemas of arguments: of a checked schema, the values that are objects.

A call's arguments are an object and nothing else, whatever else its schema would let through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.references import has_end, resolve
from langchain_internvl.grammars.schemas import SUPPORTED_OF, check_schema

_DEFINITIONS = ("$defs", "definitions")

_OTHERS = frozenset().union(*(SUPPORTED_OF[kind] for kind in SUPPORTED_OF if kind != "object"))
"""Keywords that say nothing about objects."""


def check_arguments(schema: Any, *, strict: bool = True) -> dict[str, Any]:
    """Check that a grammar can guarantee a schema of arguments; see `check_schema`.

    Returns:
        The schema as grammars read it, of objects only.

    Raises:
        SchemaError: It cannot be guaranteed, is no schema, or no value of it is an object.
    """
    checked = check_schema(schema, strict=strict)
    narrowed = _of_objects(checked, checked, frozenset())
    if narrowed is None:
        raise SchemaError(
            "$: arguments of a function are an object, and no value of this schema is one; for "
            "structured output use method='json_schema'"
        )
    definitions = {name: checked[name] for name in _DEFINITIONS if name in checked}
    whole = {**narrowed, **definitions}
    if not has_end(whole):
        raise SchemaError("$: an object of this schema has no end: each holds another of its own")
    return whole


def _of_objects(
    schema: Mapping[str, Any], root: Mapping[str, Any], followed: frozenset[str]
) -> dict[str, Any] | None:
    """The part of a checked schema whose values are objects; None: there is none.

    Args:
        schema: The schema.
        root: Where references lead.
        followed: References that led here; what leads back to itself adds no value.
    """
    if "$ref" in schema:
        reference = schema["$ref"]
        if reference in followed:
            return None
        target = resolve(root, reference)
        narrowed = _of_objects(target, root, followed | {reference})
        return {"$ref": reference} if narrowed == target else narrowed
    if "anyOf" in schema:
        options = [_of_objects(one, root, followed) for one in schema["anyOf"]]
        left = [one for one in options if one is not None]
        return {"anyOf": left} if left else None
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        objects = [one for one in values if isinstance(one, Mapping)]
        return {"enum": objects} if objects else None
    types = schema.get("type", "object")
    if "object" not in ([types] if isinstance(types, str) else types):
        return None
    kept = {
        name: value
        for name, value in schema.items()
        if name not in _OTHERS and name not in _DEFINITIONS
    }
    return {"additionalProperties": True, **kept, "type": "object"}
