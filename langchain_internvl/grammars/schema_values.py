"""Single values in JSON schemas: types, `multipleOf`, and whether two schemas overlap."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

_MOST_MULTIPLES = 1000

_MOST_WHOLE = 2**63


def fits_type(value: object, kind: str) -> bool:
    """Whether a Python value has a JSON schema type."""
    if isinstance(value, bool) or value is None:
        return kind == ("null" if value is None else "boolean")
    if isinstance(value, (int, float)):
        return kind == "number" or (kind == "integer" and value == int(value))
    if isinstance(value, str):
        return kind == "string"
    return kind == ("array" if isinstance(value, list) else "object")


def is_exact(value: object) -> bool:
    """Whether a grammar can express a value exactly: all its integers fit 64 bits."""
    if isinstance(value, Mapping):
        return all(is_exact(one) for one in value.values())
    if isinstance(value, list):
        return all(is_exact(one) for one in value)
    return not isinstance(value, int) or -_MOST_WHOLE <= value < _MOST_WHOLE


def multiples(schema: Mapping[str, Any]) -> list[int] | None:
    """All values of a schema with `multipleOf`; None: too many, or not integers."""
    factor = schema["multipleOf"]
    lowest = schema.get("minimum", -math.inf)
    highest = schema.get("maximum", math.inf)
    above, below = (
        schema.get("exclusiveMinimum", -math.inf),
        schema.get("exclusiveMaximum", math.inf),
    )
    least, most = max(lowest, above), min(highest, below)
    if factor != int(factor) or factor <= 0 or math.isinf(least) or math.isinf(most):
        return None
    first, last = math.ceil(least / factor), math.floor(most / factor)
    if last - first > _MOST_MULTIPLES:
        return None
    values = (int(factor) * one for one in range(first, last + 1))
    return [one for one in values if lowest <= one <= highest and above < one < below]


def are_apart(schemas: Sequence[Mapping[str, Any]], types: Sequence[frozenset[str]]) -> bool:
    """Whether schemas are disjoint: two by two by their types, their values or a property of both.

    Args:
        schemas: The schemas.
        types: The types of each; empty: any.
    """
    options = [_Option.of(schema, kinds) for schema, kinds in zip(schemas, types, strict=True)]
    values = [one.values for one in options if one.values is not None]
    if len(values) == len(options):  # long lists of constants, without a look at each pair
        return len(frozenset[str]().union(*values)) == sum(map(len, values))
    return all(one.is_apart_from(other) for one, other in combinations(options, 2))


@dataclass(frozen=True)
class _Option:
    """What an option of a choice says of its values.

    Attributes:
        kinds: Their types, with "number" for integers; empty: any.
        values: All of them, as JSON; None: not enumerated.
        marks: The enumerated values of its required properties.
    """

    kinds: frozenset[str]
    values: frozenset[str] | None
    marks: Mapping[str, frozenset[str]]

    @classmethod
    def of(cls, schema: Mapping[str, Any], types: frozenset[str]) -> _Option:
        values = _values(schema)
        if values is not None and not types:
            types = frozenset(map(_type_of, values))
        kinds = types | {"number"} if "integer" in types else types
        known = schema.get("properties", {})
        marks = {name: _values(known.get(name)) for name in schema.get("required", ())}
        return cls(kinds, values, {name: one for name, one in marks.items() if one is not None})

    def is_apart_from(self, other: _Option) -> bool:
        if self.kinds and other.kinds and not self.kinds & other.kinds:
            return True
        if self.values is not None and other.values is not None:
            return not self.values & other.values
        shared = self.marks.keys() & other.marks.keys()
        return any(not self.marks[name] & other.marks[name] for name in shared)


_TYPES = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}
"""Types of JSON values by their first character; all others are numbers."""


def _type_of(value: str) -> str:
    return _TYPES.get(value[0], "number")


def _values(schema: Any) -> frozenset[str] | None:
    """The enumerated values of a schema, as JSON in which equal values are equal; None: any."""
    if not isinstance(schema, Mapping) or not schema.keys() & {"const", "enum"}:
        return None
    values = [schema["const"]] if "const" in schema else schema["enum"]
    return frozenset(json.dumps(_whole(one), sort_keys=True) for one in values)


def _whole(value: Any) -> Any:
    """A JSON value in which whole numbers are integers: 1.0 is 1."""
    if isinstance(value, Mapping):
        return {name: _whole(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
