"""JSON schemas that a grammar can enforce.

A grammar accepts exactly the values of a schema, so it must be able to express every keyword.
`check_schema` raises for unsupported keywords, with their path. Source of the keywords: JSON
Schema 2020-12.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_internvl.errors import SchemaError
from langchain_internvl.grammars.annotations import is_annotation
from langchain_internvl.grammars.pattern_rules import pattern_rules
from langchain_internvl.grammars.pointers import name_references
from langchain_internvl.grammars.property_names import names_schema
from langchain_internvl.grammars.references import COMBINING, has_end, require_tags, resolve
from langchain_internvl.grammars.schema_values import are_apart, fits_type, is_exact, multiples
from langchain_internvl.grammars.string_formats import (
    ANY_STRING,
    EQUAL_PATTERNS,
    FORMATS,
    uri_pattern,
)

Schema = Mapping[str, Any]

_DEFINITIONS = ("$defs", "definitions")

_OF_ANY = frozenset({"type", "enum", "const", "$ref", *COMBINING, *_DEFINITIONS})

SUPPORTED_OF: Mapping[str, frozenset[str]] = {
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
"""Supported keywords, by the type they apply to."""

SUPPORTED = tuple(sorted(_OF_ANY | frozenset().union(*SUPPORTED_OF.values())))
"""All supported keywords."""


def check_schema(
    schema: Any, *, strict: bool = True, left_out: list[str] | None = None
) -> dict[str, Any]:
    """Check that a grammar can enforce a schema.

    Args:
        schema: A JSON schema.
        strict: Raise for unsupported keywords. False: leave them out, so that replies may violate
            them.
        left_out: List to which the paths of left-out keywords are appended, such as
            `$.properties.a.uniqueItems`; None: not recorded.

    Returns:
        The normalised schema: without annotations, with formats as patterns. Objects have only
        their named properties unless `additionalProperties` permits others; arrays have any items
        that are not forbidden.

    Raises:
        SchemaError: The schema is invalid, or has a keyword that cannot be enforced; the message
            has its path.
    """
    if not isinstance(schema, Mapping):
        raise SchemaError(f"a JSON schema is an object, not {schema!r}")
    try:
        copied = json.loads(json.dumps(schema, allow_nan=False).encode())
    except (RecursionError, TypeError, ValueError) as error:
        raise SchemaError(f"the schema is no JSON: {error}") from error
    try:
        name_references(copied)
        require_tags(copied, copied)
        checked = _Checker(copied, strict, [] if left_out is None else left_out).check(copied, "$")
        if not has_end(checked, copied):
            raise SchemaError("$: a value of this schema has no end: each holds another of its own")
    except (AttributeError, RecursionError, TypeError) as error:
        # Schemas are arbitrary JSON: all errors from wrong types are caught here.
        raise SchemaError(f"the schema is malformed: {error}") from error
    return checked


@dataclass(frozen=True)
class _Checker:
    root: Schema
    strict: bool
    left_out: list[str]

    def check(self, schema: Any, path: str) -> dict[str, Any]:
        if schema is True:
            return {}
        if not isinstance(schema, Mapping):
            problem = "allows nothing" if schema is False else f"is {schema!r}, no schema"
            raise SchemaError(f"{path} {problem}")
        kept = {name: value for name, value in schema.items() if not is_annotation(name)}
        types = self._types(kept, path)
        self._drop_unknown(kept, types, path)
        for name in _DEFINITIONS:
            if name in kept:
                kept[name] = self._each(kept[name], f"{path}.{name}")
        if "$ref" in kept:
            self._keep_alone("$ref", kept, path)
            resolve(self.root, kept["$ref"], path)
        choices = next((name for name in COMBINING if name in kept), None)
        if choices is not None and self._is_choice(kept, choices, path):
            return self._choices(kept, choices, path)
        self._check_values(kept, types, path)
        self._check_string(kept, path)
        if "object" in types:
            self._check_object(kept, path)
        if "array" in types:
            self._check_array(kept, path)
        return kept

    def _refuse(self, path: str, problem: str) -> None:
        """Raise in strict mode; otherwise record the path, and the caller drops the keyword."""
        if self.strict:
            raise SchemaError(f"{path}{problem}")
        self.left_out.append(path)

    def _types(self, schema: Schema, path: str) -> frozenset[str]:
        """The types of a schema: named, or implied by its keywords."""
        named = schema.get("type")
        if named is None:
            return frozenset(
                kind for kind in ("object", "array", "string") if SUPPORTED_OF[kind] & schema.keys()
            ) or frozenset({"number"} if SUPPORTED_OF["integer"] & schema.keys() else ())
        kinds = [named] if isinstance(named, str) else named
        for kind in kinds:
            if kind not in SUPPORTED_OF:
                raise SchemaError(f"{path}.type: {kind!r} is no type of JSON")
        return frozenset(kinds)

    def _drop_unknown(self, schema: dict[str, Any], types: frozenset[str], path: str) -> None:
        known = _OF_ANY.union(*(SUPPORTED_OF[kind] for kind in types))
        for name in sorted(schema.keys() - known):
            if name in SUPPORTED:
                kind = " or ".join(kind for kind in SUPPORTED_OF if name in SUPPORTED_OF[kind])
                named = " or ".join(sorted(types)) or "any"
                problem = f" is about type {kind}, and the type here is {named}"
            else:
                problem = (
                    ": this keyword cannot be guaranteed; leave it out and check the result, pass "
                    f"strict=False, or use one of {', '.join(SUPPORTED)}"
                )
            self._refuse(f"{path}.{name}", problem)
            del schema[name]

    def _keep_alone(self, name: str, schema: dict[str, Any], path: str) -> None:
        for other in sorted(schema.keys() - {name, *_DEFINITIONS}):
            self._refuse(
                f"{path}.{other}",
                f" stands beside {name}, and only one of them would hold; write it into what "
                f"{name} has",
            )
            del schema[other]

    def _is_choice(self, schema: dict[str, Any], name: str, path: str) -> bool:
        """Whether a schema is only a choice of others.

        Beside other keywords the choice cannot be enforced: it is refused, or dropped.
        """
        options = schema[name]
        if not isinstance(options, list) or not options:
            raise SchemaError(f"{path}.{name} must be a list of schemas")
        beside = sorted(schema.keys() - {*COMBINING, *_DEFINITIONS})
        if not self.strict and beside == ["type"] and self._all_name(schema["type"], options, path):
            del schema["type"]
            beside = []
        if not beside:
            self._keep_alone(name, schema, path)
            return True
        for other in beside:
            self._refuse(
                f"{path}.{other}",
                f" stands beside {name}, and only one of them would hold; write it into what "
                f"{name} has",
            )
        for one in COMBINING:
            schema.pop(one, None)
        return False

    def _all_name(self, types: Any, options: Sequence[Any], path: str) -> bool:
        """Whether each option names types, all of which are among the given ones."""
        allowed = {types} if isinstance(types, str) else set(types)
        named = [self._follow(one, path).get("type", ()) for one in options]
        return all(one and {*([one] if isinstance(one, str) else one)} <= allowed for one in named)

    def _choices(self, schema: dict[str, Any], name: str, path: str) -> dict[str, Any]:
        options = schema[name]
        definitions = {one: schema[one] for one in _DEFINITIONS if one in schema}
        if name == "allOf" and len(options) > 1:
            self._refuse(f"{path}.allOf", ": more than one schema at once cannot be guaranteed")
            options = options[:1]
        resolved = [self._follow(one, path) for one in options]
        if name == "oneOf" and not are_apart(
            resolved, [self._types(one, path) for one in resolved]
        ):
            self._refuse(
                f"{path}.oneOf",
                ": a value may fit several of these, and that it fits only one cannot be "
                "guaranteed; use anyOf, or give each a property with a const of its own",
            )
        checked = [self.check(one, f"{path}.{name}[{index}]") for index, one in enumerate(options)]
        return {"anyOf": checked, **definitions}

    def _follow(self, schema: Any, path: str) -> Schema:
        if not isinstance(schema, Mapping):
            return {}
        target = resolve(self.root, schema["$ref"], path) if "$ref" in schema else schema
        return target if isinstance(target, Mapping) else {}

    def _check_values(self, schema: dict[str, Any], types: frozenset[str], path: str) -> None:
        if "multipleOf" in schema:
            self._check_multiples(schema, path)
        name = next((one for one in ("enum", "const") if one in schema), None)
        if name is None:
            return
        values = schema[name] if name == "enum" else [schema[name]]
        exact = [one for one in values if is_exact(one)]
        if len(exact) < len(values):
            self._refuse(f"{path}.{name}", ": whole numbers beyond 64 bits cannot be guaranteed")
            if not exact:
                del schema[name]
                return
            values = exact
        if "type" in schema:
            values = [one for one in values if any(fits_type(one, kind) for kind in types)]
            del schema["type"]
        if not values:
            raise SchemaError(f"{path}.{name}: nothing fits it")
        self._keep_alone(name, schema, path)
        if name == "enum":
            schema["enum"] = values

    def _check_multiples(self, schema: dict[str, Any], path: str) -> None:
        values = multiples(schema)
        if values is None:
            self._refuse(
                f"{path}.multipleOf",
                " can be guaranteed between a minimum and a maximum with at most 1000 multiples",
            )
            del schema["multipleOf"]
        elif not values:
            raise SchemaError(f"{path}.multipleOf: nothing fits it")
        else:
            for name in ("type", *SUPPORTED_OF["integer"]):
                schema.pop(name, None)
            schema["enum"] = values

    def _check_string(self, schema: dict[str, Any], path: str) -> None:
        form = schema.pop("format", None)
        form = None if form in ANY_STRING else form
        if form is not None and form not in FORMATS:
            known = ", ".join(sorted(FORMATS))
            self._refuse(f"{path}.format", f": {form!r} cannot be guaranteed; known are {known}")
        elif form is not None and "pattern" in schema:
            whole = uri_pattern(schema["pattern"]) if form == "uri" else None
            if whole is None:
                self._refuse(f"{path}.pattern", " stands beside format, and only one would hold")
            schema["pattern"] = whole or schema["pattern"]
        elif form is not None:
            schema["pattern"] = FORMATS[form]
            if schema.get("minLength", 1) <= 1:  # as pydantic writes it; no format is empty
                schema.pop("minLength", None)
        if "pattern" not in schema:
            return
        schema["pattern"] = EQUAL_PATTERNS.get(schema["pattern"], schema["pattern"])
        try:
            pattern_rules(schema["pattern"], f"{path}.pattern")
        except SchemaError:
            if self.strict:
                raise
            self.left_out.append(f"{path}.pattern")
            del schema["pattern"]
            return
        for name in sorted(schema.keys() & {"minLength", "maxLength"}):
            self._refuse(
                f"{path}.{name}",
                f" stands beside {'pattern' if form is None else 'format'}, and only one of them "
                "would hold; write the length into a pattern, as in ^[a-z]{2,5}$",
            )
            del schema[name]

    def _check_object(self, schema: dict[str, Any], path: str) -> None:
        if "properties" in schema:
            schema["properties"] = self._each(schema["properties"], f"{path}.properties")
        known = schema.get("properties", {})
        extra = schema.get("additionalProperties", "properties" not in schema)
        if isinstance(extra, Mapping):
            extra = self.check(extra, f"{path}.additionalProperties")
        schema["additionalProperties"] = extra
        if "propertyNames" in schema and known:
            self._refuse(f"{path}.propertyNames", " stands beside properties; name them all there")
            del schema["propertyNames"]
        elif "propertyNames" in schema:
            self._check_names(schema, f"{path}.propertyNames")
        if schema.get("minProperties", 0) > 1 and extra is not False:
            self._refuse(
                f"{path}.minProperties",
                f": {schema['minProperties']} names may turn out to be one and the same; name them "
                "in properties, or use a list",
            )
            schema["minProperties"] = 1
        for name in list(schema.get("required", ())):
            if name not in known:
                self._refuse(
                    f"{path}.required", f": {name!r} is not in properties: nothing says what it is"
                )
                schema["required"] = [one for one in schema["required"] if one != name]

    def _check_names(self, schema: dict[str, Any], path: str) -> None:
        names = names_schema(schema["propertyNames"], self.root, path)
        if names is None:
            self._refuse(path, ": names are strings, and this permits none")
            del schema["propertyNames"]
        else:
            schema["propertyNames"] = {"type": "string", **self.check(names, path)}

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
