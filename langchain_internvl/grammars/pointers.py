"""References of JSON schemas, rewritten so that each names a definition of the root or the root.

A reference is a URI (JSON Schema 2020-12, section 8.2): relative to the `$id` around it, with a
JSON pointer (RFC 6901, percent-encoded as a URI fragment) or the name of an anchor as fragment.
Grammars know only `#` and `#/$defs/NAME`, taken literally: other targets get such a name here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin

from langchain_internvl.errors import SchemaError

Schema = Mapping[str, Any]

_MAPS = frozenset(
    {
        "$defs", "definitions", "dependencies", "dependentSchemas", "patternProperties",
        "properties",
    }
)  # fmt: skip
"""Keywords that map arbitrary names to schemas; `dependencies` also to lists of names."""

_LISTS = frozenset({"allOf", "anyOf", "items", "oneOf", "prefixItems"})
"""Keywords that may hold a list of schemas."""

_SINGLE = frozenset(
    {
        "additionalItems", "additionalProperties", "contains", "contentSchema", "else", "if",
        "items", "not", "propertyNames", "then", "unevaluatedItems", "unevaluatedProperties",
    }
)  # fmt: skip
"""Keywords that may hold one schema."""

_ANCHORS = ("$anchor", "$dynamicAnchor")

_LITERAL = re.compile(r"#/(?:\$defs|definitions)/[^/~%]+")
"""References that mean the same to a grammar, which decodes nothing."""

_UNUSABLE = re.compile(r"[^\w.-]+")
"""What a name has that needs an escape in a reference."""


def subschemas(schema: Schema) -> Iterator[tuple[str, Any]]:
    """The schemas directly inside a schema, with their paths; values such as `const` are not."""
    for name, value in schema.items():
        if name in _MAPS and isinstance(value, Mapping):
            yield from ((f".{name}.{key}", one) for key, one in value.items())
        elif name in _LISTS and isinstance(value, list):
            yield from ((f".{name}[{index}]", one) for index, one in enumerate(value))
        elif name in _SINGLE:
            yield f".{name}", value


def references(schema: Any) -> Iterator[str]:
    """All references in a schema; not those in values such as `const`."""
    if isinstance(schema, Mapping):
        if "$ref" in schema:
            yield schema["$ref"]
        for _, one in subschemas(schema):
            yield from references(one)


def name_references(schema: dict[str, Any]) -> None:
    """Rewrite the references of a schema, in place.

    Afterwards each is `#`, or names a definition of the root whose name needs no escapes. Targets
    elsewhere are added to the root's `$defs`.

    Args:
        schema: A schema of plain dictionaries and lists.

    Raises:
        SchemaError: A target does not exist in this schema; the message has the path.
    """
    _Naming(schema).run()


def target_of(document: Any, pointer: str) -> Any:
    """The value that a JSON pointer names.

    Args:
        document: The value that the pointer begins at.
        pointer: The pointer, not percent-encoded, such as `/$defs/a~1b/items/0`; "": the document.

    Raises:
        LookupError: It names nothing.
        ValueError: It is no JSON pointer.
    """
    if pointer and not pointer.startswith("/"):
        raise ValueError(pointer)
    place = document
    for step in pointer.split("/")[1:]:
        if re.search(r"~(?![01])", step):
            raise ValueError(pointer)
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, list):
            if not re.fullmatch(r"0|[1-9][0-9]*", name):
                raise LookupError(name)
            place = place[int(name)]
        elif isinstance(place, Mapping):
            place = place[name]
        else:
            raise LookupError(name)  # noqa: TRY004 - the pointer names nothing
    return place


@dataclass
class _Naming:
    """Names of the targets of one schema.

    Attributes:
        root: The schema.
        documents: Schemas by URI: the root, and each schema with an `$id`.
        anchors: Schemas by URI and name.
    """

    root: dict[str, Any]
    documents: dict[str, Any] = field(default_factory=dict)
    anchors: dict[tuple[str, str], Any] = field(default_factory=dict)
    _bases: dict[int, str] = field(default_factory=dict)  # by identity of the schema
    _names: dict[int, str] = field(default_factory=dict)  # likewise; references to definitions
    _seen: set[int] = field(default_factory=set)

    def run(self) -> None:
        base = self._find(self.root, "")
        self.documents[base] = self.root
        for keyword in ("definitions", "$defs"):
            own = self.root.get(keyword)
            for name, one in own.items() if isinstance(own, Mapping) else ():
                if name and not _UNUSABLE.search(name):
                    self._names[id(one)] = f"#/{keyword}/{name}"
        waiting: list[tuple[Any, str, str]] = [(self.root, base, "$")]
        while waiting:
            schema, base, path = waiting.pop()
            if not isinstance(schema, dict) or id(schema) in self._seen:
                continue
            self._seen.add(id(schema))
            base = self._bases.get(id(schema), base)
            if "$ref" in schema:
                target, there = self._resolve(schema["$ref"], base, path)
                if target is self.root:
                    schema["$ref"] = "#"
                else:
                    if not self._is_literal(schema["$ref"], target):
                        schema["$ref"] = self._name(schema["$ref"], target)
                    waiting.append((target, there, path))
            waiting += ((one, base, path + step) for step, one in subschemas(schema))

    def _find(self, schema: Any, base: str) -> str:
        """Record the identifiers of a schema and of those inside; returns the schema's base URI."""
        if not isinstance(schema, dict):
            return base
        own = schema.get("$id")
        if isinstance(own, str):
            uri, fragment = urldefrag(_join(base, own))
            if uri != base:
                base = uri
                self.documents.setdefault(base, schema)
            if fragment:  # an anchor before the drafts had a keyword for it
                self.anchors.setdefault((base, unquote(fragment)), schema)
        for keyword in _ANCHORS:
            if isinstance(schema.get(keyword), str):
                self.anchors.setdefault((base, schema[keyword]), schema)
        self._bases[id(schema)] = base
        for _, one in subschemas(schema):
            self._find(one, base)
        return base

    def _resolve(self, reference: Any, base: str, path: str) -> tuple[Any, str]:
        """The target of a reference, and the base URI there."""
        if not isinstance(reference, str):
            raise SchemaError(f"{path}.$ref: {reference!r} is no text")
        uri, fragment = urldefrag(_join(base, reference))
        if uri not in self.documents:
            raise SchemaError(
                f"{path}.$ref: {reference!r} is not in this schema; copy what it names into $defs"
            )
        fragment = unquote(fragment)
        if (uri, fragment) in self.anchors:
            return self.anchors[uri, fragment], uri
        # Some writers give a part an `$id`, and mean the root all the same.
        for document in (self.documents[uri], self.root):
            with suppress(LookupError, ValueError):
                return target_of(document, fragment), uri
        raise SchemaError(f"{path}.$ref: there is no {reference}")

    def _is_literal(self, reference: str, target: Any) -> bool:
        """Whether a grammar finds the target of a reference, too."""
        if not _LITERAL.fullmatch(reference):
            return False
        _, keyword, name = reference.split("/")
        return self.root.get(keyword, {}).get(name) is target

    def _name(self, reference: str, target: Any) -> str:
        """The reference to a target as a definition of the root, added if it is none yet."""
        key = id(target)
        if key not in self._names:
            definitions = self.root.setdefault("$defs", {})
            last = _UNUSABLE.sub("_", unquote(reference).rpartition("/")[2]) or "part"
            name, number = last, 1
            while name in definitions or name in self.root.get("definitions", {}):
                number += 1
                name = f"{last}_{number}"
            definitions[name] = target
            self._names[key] = f"#/$defs/{name}"
        return self._names[key]


def _join(base: str, reference: str) -> str:
    """A reference relative to a base URI; a fragment alone belongs to any kind of base."""
    try:
        return base + reference if reference.startswith("#") else urljoin(base, reference)
    except ValueError as error:
        raise SchemaError(f"{reference!r} is no URI: {error}") from error
