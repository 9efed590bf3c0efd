"""Traces of agents and chains without media.

The runs of `ChatInternVL` hold media by reference and need nothing of this. Runs around them, such
as an agent's graph and its tools, are traced with their whole input, base64 included.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult, Generation, LLMResult
from langchain_core.prompt_values import PromptValue

_HOLDERS = (BaseMessage, PromptValue, Document, Generation, ChatResult, LLMResult)
"""Models of pydantic that hold messages or text: prompts, documents and results."""

_LEAST_ENCODED = 256
_ENCODED = re.compile(rf"(?:[A-Za-z0-9+/_-]|\\/|%2[BbFf]){{{_LEAST_ENCODED},}}={{0,2}}")
"""A run of base64 that is longer than any key or hash, in JSON and URLs too."""


def without_media(value: Any) -> Any:
    """A copy of the inputs or outputs of a run in which the bytes of media are replaced by sizes.

    For LangSmith: `langsmith.Client(hide_inputs=without_media, hide_outputs=without_media)`.

    Args:
        value: Any value: messages, prompts, documents, results, dictionaries, sequences,
            dataclasses and strings are searched; bytes, Pillow images and arrays are replaced.

    Returns:
        The value with strings such as "<base64 of 1234 bytes>" in the places of media. Objects of
        other types are returned as they are.
    """
    if isinstance(value, str):
        return _ENCODED.sub(_size, value) if len(value) >= _LEAST_ENCODED else value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Mapping):
        return {key: without_media(one) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [without_media(one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return _object(value)


def _object(value: Any) -> Any:
    """A message, prompt, document, result or dataclass without media; others as they are."""
    if isinstance(value, _HOLDERS):
        found = {name: without_media(getattr(value, name)) for name in type(value).model_fields}
        return value.model_copy(update=found)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value) if field.init]
        return replace(value, **{name: without_media(getattr(value, name)) for name in names})
    return _array(value)


def _size(encoded: re.Match[str]) -> str:
    return f"<base64 of {len(encoded[0].rstrip('=')) * 3 // 4} bytes>"


def _array(value: Any) -> Any:
    """A marker for a Pillow image, an array or a tensor; other objects as they are."""
    kind = type(value)
    if kind.__module__.startswith("PIL.") and hasattr(value, "size"):
        return f"<image of {value.size[0]} x {value.size[1]} pixels>"
    if kind.__module__ in {"numpy", "torch"} and len(getattr(value, "shape", ())) > 1:
        return f"<{kind.__name__} of shape {tuple(value.shape)}>"
    return value


class MediaFreeExporter:
    """A span exporter of OpenTelemetry that removes media from attributes and events.

    Args:
        exporter: The exporter that gets the changed spans, such as `OTLPSpanExporter()`.
    """

    def __init__(self, exporter: Any) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[Any]) -> Any:
        """Export spans; see `opentelemetry.sdk.trace.export.SpanExporter`."""
        return self._exporter.export([_span(span) for span in spans])

    def shutdown(self) -> None:
        """Shut the exporter down."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is left; see `SpanExporter.force_flush`."""
        return bool(self._exporter.force_flush(timeout_millis))


def _span(span: Any) -> Any:
    """A copy of a finished span without media."""
    sdk: Any = import_module("opentelemetry.sdk.trace")  # installed, as a span is here
    events = [
        sdk.Event(event.name, without_media(event.attributes or {}), event.timestamp)
        for event in span.events
    ]
    return sdk.ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=without_media(span.attributes or {}),
        events=events,
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
