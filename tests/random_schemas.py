"""Random JSON schemas, of the keywords listed here, with every string, array and integer bounded.

Keywords: type (one, or several), properties, required, additionalProperties, minProperties,
items, prefixItems, minItems, maxItems, enum, const, anyOf, $ref (also to what it stands in),
minLength, maxLength, pattern, format, minimum, maximum, exclusiveMinimum, exclusiveMaximum,
multipleOf.
"""

from __future__ import annotations

KEYWORDS = frozenset(
    {
        "$defs", "$ref", "additionalProperties", "anyOf", "const", "enum", "exclusiveMaximum",
        "exclusiveMinimum", "format", "items", "maxItems", "maxLength", "maximum", "minItems",
        "minLength", "minProperties", "minimum", "multipleOf", "pattern", "prefixItems",
        "properties", "required", "type",
    }
)  # fmt: skip

_NAMES = ("id", "name", "Größe", "kind", "line items", 'so-called "x"', "价格", "a/b", "_", "total")
_WORDS = ("food", "fuel", "", "two words", "ünï", "中文", "a\nb", 'say "hi"')
_PATTERNS = ("^[A-Z]{2}-[0-9]{3}$", "^(red|green)$", "^[a-f0-9]{4,8}$", r"^\d{1,3}\.\d\d$")
_FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")


def draw_schema(chance):
    """A schema of an object.

    Args:
        chance: A `random.Random`.
    """
    schema = _object(chance, 3)
    definitions = {"entry": _object(chance, 1)}
    node = _object(chance, 1)
    node["properties"]["next"] = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
    definitions["node"] = node
    for name in chance.sample(["entry", "node"], chance.randrange(3)):
        schema["properties"][name] = {"$ref": f"#/$defs/{name}"}
        schema["required"].append(name)
    return {"$defs": definitions, **schema}


def _object(chance, depth):
    names = chance.sample(_NAMES, chance.randint(1, 4))
    schema = {
        "type": "object",
        "properties": {name: _any(chance, depth - 1) for name in names},
        "required": [name for name in names if chance.random() < 0.7],
    }
    if chance.random() < 0.3:
        schema["additionalProperties"] = False
        schema["minProperties"] = chance.randint(0, len(names))
    return schema


def _any(chance, depth):
    kinds = [_string, _integer, _number, _values, _plain]
    if depth > 0:
        kinds += [_object, _array, _union, _array]
    return chance.choice(kinds)(chance, depth)


def _string(chance, _depth):
    kind = chance.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": chance.choice(_PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": chance.choice(_FORMATS)}
    least = chance.randrange(4)
    return {"type": "string", "minLength": least, "maxLength": least + chance.randrange(12)}


def _integer(chance, _depth):
    low = chance.randint(-1000, 1000)
    if chance.random() < 0.2:
        return {"type": "integer", "minimum": low, "maximum": low + 100, "multipleOf": 7}
    bounds = ("minimum", "maximum") if chance.random() < 0.7 else _EXCLUSIVE
    return {"type": "integer", bounds[0]: low, bounds[1]: low + 1 + chance.randint(1, 5000)}


_EXCLUSIVE = ("exclusiveMinimum", "exclusiveMaximum")


def _number(chance, _depth):
    low = chance.choice([-2.5, 0, 0.5, -100, 3])
    return {"type": "number", "minimum": low, "maximum": low + chance.choice([0.5, 10, 1000])}


def _values(chance, _depth):
    if chance.random() < 0.3:
        return {"const": chance.choice([*_WORDS, 3, -0.5, None, True, [1, "x"], {"a": None}])}
    values = [*chance.sample(_WORDS, 3), *chance.sample([0, 1.5, None, False], 2)]
    return {"enum": chance.sample(values, chance.randint(1, 4))}


def _plain(chance, _depth):
    return {"type": chance.choice(["boolean", "null", ["boolean", "null"]])}


def _array(chance, depth):
    least = chance.randrange(3)
    schema = {
        "type": "array",
        "items": _any(chance, depth - 1),
        "minItems": least,
        "maxItems": least + chance.randrange(3),
    }
    if chance.random() < 0.2:
        schema["prefixItems"] = [_any(chance, 0)]
        schema["minItems"] = max(1, least)
        schema["maxItems"] = max(1, schema["maxItems"])
    return schema


def _union(chance, depth):
    return {"anyOf": [_any(chance, depth - 1) for _ in range(chance.randint(2, 3))]}
