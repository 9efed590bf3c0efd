"""Schemas of tool arguments: a checked schema restricted to objects.

The arguments of a tool call are always a JSON object, even if their schema permits other values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.references import has_end, resolve
from langchain_internvl.grammars.schemas import SUPPORTED_OF, check_schema

_DEFINITIONS = ("$defs", "definitions")

_OTHERS = frozenset().union(*(SUPPORTED_OF[kind] for kind in SUPPORTED_OF if kind != "object"))
"""Keywords that do not apply to objects."""


def check_arguments(schema: Any, *, strict: bool = True) -> dict[str, Any]:
    """Check that a grammar can enforce a schema of tool arguments; see `check_schema`.

    Returns:
        The checked schema, restricted to objects.

    Raises:
        SchemaError: The schema is invalid, cannot be enforced, or permits no objects.
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
    """A checked schema restricted to objects; None: it permits none.

    Args:
        schema: The schema.
        root: The schema that references are resolved in.
        followed: References on the way to this schema; a cycle adds no values.
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
