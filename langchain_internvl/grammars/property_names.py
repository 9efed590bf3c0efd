"""Schemas of property names: names are strings, whatever else their schema permits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_internvl.grammars.annotations import is_annotation
from langchain_internvl.grammars.references import COMBINING, resolve

Schema = Mapping[str, Any]


def names_schema(
    schema: Any, root: Schema, path: str, followed: frozenset[str] = frozenset()
) -> Any:
    """The schema of names as one of strings, without references.

    Args:
        schema: A value of `propertyNames`.
        root: The schema that references are resolved in.
        path: Path of the schema, for errors.
        followed: References that were followed so far.

    Returns:
        The schema; None: no name fits it, such as one of numbers.

    Raises:
        SchemaError: The target of a reference does not exist.
    """
    if isinstance(schema, bool):
        return {"type": "string"} if schema else None
    if not isinstance(schema, Mapping):
        return schema  # which the checker refuses
    if "$ref" in schema:
        return _of_reference(schema, root, path, followed)
    choices = next((one for one in COMBINING if isinstance(schema.get(one), list)), None)
    if choices is not None:
        options = [names_schema(one, root, path, followed) for one in schema[choices]]
        left = [one for one in options if one is not None]
        is_empty = not left or (choices == "allOf" and len(left) < len(options))
        return None if is_empty else {**schema, choices: left}
    kinds = schema.get("type", "string")
    values = schema["enum"] if "enum" in schema else [schema.get("const", "")]
    has_text = any(isinstance(one, str) for one in values)
    is_text = "string" in ([kinds] if isinstance(kinds, str) else kinds)
    return {**schema, "type": "string"} if has_text and is_text else None


def _of_reference(schema: Schema, root: Schema, path: str, followed: frozenset[str]) -> Any:
    """See `names_schema`; what stands beside the reference holds too."""
    reference = schema["$ref"]
    if reference in followed:
        return None
    target = resolve(root, reference, path)
    names = names_schema(target, root, path, followed | {reference})
    beside = {
        name: one for name, one in schema.items() if name != "$ref" and not is_annotation(name)
    }
    return {"allOf": [names, beside]} if beside and names is not None else names
