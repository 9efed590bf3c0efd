"""Traces of agents and chains without media.

The runs of `ChatInternVL` hold media by reference and need nothing of this. Runs around them, such
as an agent's graph and its tools, are traced with their whole input, base64 included.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult, Generation, LLMResult
from langchain_core.prompt_values import PromptValue

_HOLDERS = (BaseMessage, PromptValue, Document, Generation, ChatResult, LLMResult)
"""Models of pydantic that hold messages or text: prompts, documents and results."""

_LEAST_ENCODED = 256
_DIGIT = r"(?:[A-Za-z0-9+/_-]|\\/|%2[BbFf])"
_ENCODED = re.compile(
    rf"(?<![A-Za-z0-9+/_-])(?:{_DIGIT}{{{_LEAST_ENCODED},}}={{0,2}}"
    rf"|(?:{_DIGIT}{{60,255}}(?:\r?\n|(?:\\r)?\\n)){{4,}}{_DIGIT}*={{0,2}})"
)
"""A run of base64 that is longer than any key or hash, in JSON and URLs too, or lines of one."""

_LINES = rf"(?:{_DIGIT}{{60,76}}(?:\r?\n|(?:\\r)?\\n))*{_DIGIT}{{4,}}={{0,2}}"
_DATA_URL = re.compile(rf"(data:[\w.+/;=%-]{{0,200}};\s?base64\s?,\s?)({_LINES})")
_SIGNED = re.compile(
    r"(?<![A-Za-z0-9+/_-])(?=iVBORw0KGgo|\\?/9j\\?/|R0lGOD|UklGR|JVBERi0|Qk[0-3])"
    rf"(?={_DIGIT}{{40}}){_LINES}"
)
"""Base64 of any length in a data URL, or of a PNG, JPEG, GIF, WebP, AVI, PDF or BMP."""

_ENCODED_FIELDS = frozenset({"base64", "b64_json"})
_FILE_FIELDS = frozenset({"blob", "bytes", "data"})
"""Fields of content blocks that hold base64, the second kind beside the type of a file."""
_FILE_TYPES = ("media_type", "mimeType", "mime_type")
_ONLY_BASE64 = re.compile(r"(?=.)[\w\s+/-]*(?:(?:\\/|%2[BbFf])[\w\s+/-]*)*={0,2}", re.ASCII)

_USUAL_PATH = 4096
"""Characters up to which a run is looked at as a whole; of longer ones the beginning first."""
_SEPARATOR = re.compile(r"\\/|%2[Ff]|[/_-]")
_WORD = re.compile(r"[A-Z]?[a-z]{2,}(?:[A-Z][a-z]+)*[0-9]{0,8}|[0-9]+|[0-9a-f]{8,}")
_HASHES = re.compile(r"[0-9a-f\s]+")

_DEEPEST = 80
"""Levels of a value that are searched; deeper ones could exceed Python's recursion limit."""


def without_media(value: Any) -> Any:
    """A copy of the inputs or outputs of a run in which the bytes of media are replaced by sizes.

    For LangSmith: `langsmith.Client(hide_inputs=without_media, hide_outputs=without_media)`.

    Args:
        value: Any value: messages, prompts, documents, results, dictionaries, sequences,
            dataclasses and strings are searched; bytes, Pillow images and arrays are replaced.

    Returns:
        The value with strings such as "<base64 of 1234 bytes>" in the places of media. Mappings
        become dictionaries; subclasses of lists, tuples and sets become these, except named tuples.
        A value inside itself, and levels below the 80th, are replaced by a marker. Objects of
        other types are returned as they are.
    """
    return _search(value, ())


def _search(value: Any, above: tuple[int, ...]) -> Any:
    """See `without_media`; `above` are the ids of the values that contain this one."""
    if not _is_searched(value):
        return _single(value)
    if id(value) in above:
        return f"<the same {type(value).__name__} again>"
    if len(above) >= _DEEPEST:
        return f"<{type(value).__name__}, more than {_DEEPEST} levels deep>"
    above = (*above, id(value))
    if isinstance(value, Mapping):
        return {
            key: _size_of(one) if _is_file(key, one, value) else _search(one, above)
            for key, one in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return _sequence(value, [_search(one, above) for one in value])
    return _object(value, above)


def _single(value: Any) -> Any:
    """A string without base64, or the size of bytes or pixels; other objects as they are."""
    if isinstance(value, str):
        value = _ENCODED.sub(_size, value) if len(value) >= _LEAST_ENCODED else value
        value = _DATA_URL.sub(lambda found: found[1] + _size_of(found[2]), value)
        return _SIGNED.sub(_size, value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return f"<{value.nbytes if isinstance(value, memoryview) else len(value)} bytes>"
    return _array(value)


def _is_file(key: Any, value: Any, block: Mapping[Any, Any]) -> bool:
    """Whether a field of a content block is the base64 of a file, however short."""
    if not isinstance(value, str) or key not in _ENCODED_FIELDS | _FILE_FIELDS:
        return False
    if key in _FILE_FIELDS:
        is_text = block.get("type") == "text"  # Anthropic's, which has its words in `data`
        if is_text or not any(block.get(name) for name in _FILE_TYPES):
            return False
    return _ONLY_BASE64.fullmatch(value.rstrip()) is not None


def _is_searched(value: Any) -> bool:
    if isinstance(value, (Mapping, list, tuple, set, frozenset, *_HOLDERS)):
        return True
    return is_dataclass(value) and not isinstance(value, type)


def _sequence(value: Any, parts: list[Any]) -> Any:
    """The parts as a sequence like `value`; a subclass may have any constructor."""
    if isinstance(value, tuple):
        return type(value)._make(parts) if hasattr(value, "_make") else tuple(parts)
    if isinstance(value, list):
        return parts
    try:
        return frozenset(parts) if isinstance(value, frozenset) else set(parts)
    except TypeError:  # a hashable mapping has become a dictionary
        return parts


def _object(value: Any, above: tuple[int, ...]) -> Any:
    """A message, prompt, document, result or dataclass without media."""
    is_model = isinstance(value, _HOLDERS)
    names = type(value).model_fields if is_model else [field.name for field in fields(value)]
    found = {name: _search(getattr(value, name), above) for name in names if hasattr(value, name)}
    if is_model:
        extra = value.model_extra or {}
        found |= {name: _search(one, above) for name, one in extra.items()}
        return value.model_copy(update=found)
    # `replace` would call the constructor, which may need more than the fields.
    try:
        copied = copy.copy(value)
        if copied is value:
            return found
        for name, one in found.items():
            object.__setattr__(copied, name, one)
    except Exception:  # noqa: BLE001 - the class may define copies and fields as it likes
        return found
    return copied


def _size(encoded: re.Match[str]) -> str:
    text = encoded[0]
    return text if _is_words(text) else _size_of(text)


def _size_of(text: str) -> str:
    """The marker for base64 in JSON and URLs too."""
    digits = re.sub(r"\\r|\\n|\s|=", "", re.sub(r"\\/|%2[BbFf]", "/", text))
    return f"<base64 of {len(digits) * 3 // 4} bytes>"


def _is_words(text: str) -> bool:
    """Whether a run that could be base64 is a path, an identifier, a rule or lines of hashes.

    Encoded bytes have few separators and mix upper case, lower case and digits between them;
    equal pixels repeat separators.
    """
    if text.endswith("="):
        return False
    if len(text) > _USUAL_PATH and not _is_words(text[:_USUAL_PATH].rpartition("/")[0]):
        return False  # megabytes of base64 need not be split into words
    if "\n" in text or "\\n" in text:
        return _HASHES.fullmatch(text.replace("\\r", "").replace("\\n", "\n")) is not None
    segments = _SEPARATOR.split(text)
    words = [word for word in segments if word]
    if not words:
        return "/" not in text  # a rule of dashes; slashes are white pixels
    if len(words) < 4 or max(map(len, words)) > 64 or 3 * len(segments) > 4 * len(words) + 6:
        return False
    return 2 * sum(len(word) + 1 for word in words if _WORD.fullmatch(word)) >= len(text)


def _array(value: Any) -> Any:
    """A marker for a Pillow image, an array or a tensor; other objects as they are."""
    kind = type(value)
    if kind.__module__.startswith("PIL.") and hasattr(value, "size"):
        return f"<image of {value.size[0]} x {value.size[1]} pixels>"
    shape = getattr(value, "shape", ())
    is_array = kind.__module__.partition(".")[0] in {"numpy", "torch"} and isinstance(shape, tuple)
    # Arrays of one dimension are token ids or numbers; of bytes, encoded media.
    if is_array and (len(shape) > 1 or (shape and _is_bytes(value))):
        return f"<{kind.__name__} of shape {tuple(value.shape)}>"
    return value


def _is_bytes(array: Any) -> bool:
    return str(getattr(array, "dtype", "")).rpartition(".")[2] in {"uint8", "int8"}


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
