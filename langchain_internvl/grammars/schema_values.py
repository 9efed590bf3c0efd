"""Single values in JSON schemas: types, `multipleOf`, and whether two schemas overlap."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
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
    """Whether schemas are disjoint: by their types, or by a property that all of them require.

    Args:
        schemas: The schemas.
        types: The types of each; empty: any.
    """
    together = frozenset[str]().union(*types)
    overlap = {"integer", "number"} <= together
    if all(types) and len(together) == sum(map(len, types)) and not overlap:
        return True
    marked = [_marks(one) for one in schemas]
    shared = set(marked[0]).intersection(*marked)
    return any(
        len(frozenset[str]().union(*(one[name] for one in marked)))
        == sum(len(one[name]) for one in marked)
        for name in shared
    )


def _marks(schema: Mapping[str, Any]) -> dict[str, frozenset[str]]:
    """The enumerated values of the required properties of a schema."""
    marks = {}
    for name in schema.get("required", ()):
        declared = schema.get("properties", {}).get(name, {})
        if "const" in declared or "enum" in declared:
            values = [declared["const"]] if "const" in declared else declared["enum"]
            marks[name] = frozenset(json.dumps(one, sort_keys=True) for one in values)
    return marks
