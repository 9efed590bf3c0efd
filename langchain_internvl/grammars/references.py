"""References in JSON schemas: resolution, detection of endless recursion, tags of unions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.pointers import references as list_references
from langchain_internvl.grammars.pointers import subschemas

Schema = Mapping[str, Any]

COMBINING = ("anyOf", "oneOf", "allOf")
"""Keywords that hold a list of schemas."""


def require_tags(schema: Any, root: Schema) -> None:
    """Make the tag of each option of a `oneOf` with a `discriminator` required, in place.

    A tag with a default is not in `required`, but without it the options cannot be distinguished.

    Args:
        schema: A schema; its options are changed in place.
        root: The schema that references are resolved in.
    """
    if not isinstance(schema, Mapping):
        return
    discriminator, options = schema.get("discriminator"), schema.get("oneOf")
    if isinstance(discriminator, Mapping) and isinstance(options, list):
        name = discriminator.get("propertyName")
        for one in options:
            is_reference = isinstance(one, Mapping) and "$ref" in one
            target = resolve(root, one["$ref"]) if is_reference else one
            if isinstance(target, dict) and name in target.get("properties", {}):
                required = list(target.get("required", ()))
                target["required"] = required if name in required else [*required, name]
    for _, one in subschemas(schema):
        require_tags(one, root)


def resolve(root: Schema, reference: Any, path: str = "$") -> Any:
    """The target of a reference in a schema, as `pointers.name_references` writes it.

    Raises:
        SchemaError: The target does not exist in this schema.
    """
    if not (isinstance(reference, str) and reference.startswith("#")):
        raise SchemaError(f"{path}.$ref: {reference!r} is not in this schema")
    place: Any = root
    for step in reference[1:].split("/")[1:]:
        if not isinstance(place, Mapping) or step not in place:
            raise SchemaError(f"{path}.$ref: there is no {reference}")
        place = place[step]
    return place


def has_end(checked: Schema, root: Schema | None = None) -> bool:
    """Whether a checked schema permits a finite value.

    Args:
        checked: The schema.
        root: The schema that references are resolved in; None: `checked` itself.
    """
    whole = checked if root is None else root
    references = set(list_references(checked))
    ending: set[str] = set()
    grew = True
    while grew:
        found = {one for one in references - ending if _ends(resolve(whole, one), ending)}
        grew = bool(found)
        ending |= found
    return _ends(checked, ending)


def _ends(schema: Any, ending: Collection[str]) -> bool:
    """Whether a schema permits a finite value.

    Args:
        schema: The schema.
        ending: References already known to permit one.
    """
    if not isinstance(schema, Mapping):
        return True
    if "$ref" in schema:
        return schema["$ref"] in ending
    for name in COMBINING:
        if name in schema:
            return any(_ends(one, ending) for one in schema[name])
    known = schema.get("properties", {})
    needed = [known[name] for name in schema.get("required", ()) if name in known]
    first = schema.get("prefixItems", [])
    needed += first[: schema.get("minItems", 0)]
    if schema.get("minItems", 0) > len(first):
        needed.append(schema.get("items"))
    return all(_ends(one, ending) for one in needed)
