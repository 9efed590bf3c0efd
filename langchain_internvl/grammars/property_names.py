"""Schemas of property names: names are strings, whatever else their schema permits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.annotations import is_annotation
from langchain_internvl.grammars.references import COMBINING, resolve

Schema = Mapping[str, Any]


_MOST_REFERENCES = 1000
"""References that are followed: their targets are copied, twice as many with each level of choices
between two of them."""


def names_schema(schema: Any, root: Schema, path: str) -> Any:
    """The schema of names as one of strings, without references.

    Args:
        schema: A value of `propertyNames`.
        root: The schema that references are resolved in.
        path: Path of the schema, for errors.

    Returns:
        The schema; None: no name fits it, such as one of numbers.

    Raises:
        SchemaError: The target of a reference does not exist, or it has too many of them.
    """
    return _Names(root, path).of(schema, frozenset())


class _Names:
    """See `names_schema`."""

    def __init__(self, root: Schema, path: str) -> None:
        self._root = root
        self._path = path
        self._left = _MOST_REFERENCES

    def of(self, schema: Any, followed: frozenset[str]) -> Any:
        """The schema of names.

        Args:
            schema: A schema of names.
            followed: References that lead to it.
        """
        if isinstance(schema, bool):
            return {"type": "string"} if schema else None
        if not isinstance(schema, Mapping):
            return schema  # which the checker refuses
        if "$ref" in schema:
            return self._of_reference(schema, followed)
        choices = next((one for one in COMBINING if isinstance(schema.get(one), list)), None)
        if choices is not None:
            options = [self.of(one, followed) for one in schema[choices]]
            left = [one for one in options if one is not None]
            is_empty = not left or (choices == "allOf" and len(left) < len(options))
            return None if is_empty else {**schema, choices: left}
        kinds = schema.get("type", "string")
        values = schema["enum"] if "enum" in schema else [schema.get("const", "")]
        has_text = any(isinstance(one, str) for one in values)
        is_text = "string" in ([kinds] if isinstance(kinds, str) else kinds)
        return {**schema, "type": "string"} if has_text and is_text else None

    def _of_reference(self, schema: Schema, followed: frozenset[str]) -> Any:
        """The target of a reference; what stands beside the reference holds too."""
        reference = schema["$ref"]
        if reference in followed:
            return None
        self._left -= 1
        if self._left < 0:
            raise SchemaError(
                f"{self._path}: over {_MOST_REFERENCES} references are followed; name fewer "
                "schemas of names"
            )
        target = resolve(self._root, reference, self._path)
        names = self.of(target, followed | {reference})
        beside = {
            name: one for name, one in schema.items() if name != "$ref" and not is_annotation(name)
        }
        return {"allOf": [names, beside]} if beside and names is not None else names
