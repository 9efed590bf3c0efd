"""Annotations in JSON schemas: keywords that do not constrain values."""

from __future__ import annotations

_ANNOTATIONS = frozenset(
    {
        "$anchor", "$comment", "$dynamicAnchor", "$id", "$schema", "contentMediaType", "default",
        "deprecated", "description", "discriminator", "example", "examples", "readOnly", "title",
        "writeOnly",
    }
)  # fmt: skip


def is_annotation(keyword: str) -> bool:
    """Whether a keyword is an annotation; `x-` marks vendor extensions (OpenAPI)."""
    return keyword in _ANNOTATIONS or keyword.startswith("x-")
