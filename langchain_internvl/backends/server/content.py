"""Text and thoughts of a delta or message: text, null, or a list of parts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Literal

_FIELDS = ("text", "thinking", "reasoning", "summary", "content", "refusal", "value")
"""Fields of a part that have its text, or parts again."""

_THOUGHTS = ("thinking", "reasoning", "summary")
"""Prefixes of the types of parts that are thoughts, such as `reasoning_content`."""

_SILENT = ("redacted_thinking", "encrypted", "signature")
"""Parts without text for a reader: thoughts that only their server can read."""

_NAMED = ("image", "image_url", "output_image", "audio", "input_audio", "output_audio", "video",
          "video_url", "file", "tool_use", "tool_call", "tool_result")  # fmt: skip
"""Types of parts that warnings name; others are not quoted, as they may echo a secret."""

_MOST_NESTED = 8

Kind = Literal["text", "thoughts"]


def read_content(delta: Mapping[str, Any]) -> tuple[str, str]:
    """Thoughts and text of a delta or message.

    Text is its `content`, or its `refusal` if there is none. Thoughts are `reasoning_content` or
    `reasoning`, followed by those in `content` (Mistral's `thinking` parts). Each may be text, null
    or a list of parts. A warning names the parts that are neither, such as images.

    Raises:
        TypeError: Something in place of text is neither text nor a part.
    """
    apart = delta.get("reasoning_content") or delta.get("reasoning")
    thoughts = "".join(text for _, text in _parts(apart, "thoughts"))
    text = ""
    for kind, piece in _parts(delta.get("content"), "text"):
        if kind == "text":
            text += piece
        else:
            thoughts += piece
    if not text:
        text = "".join(piece for _, piece in _parts(delta.get("refusal"), "text"))
    return thoughts, text


def _parts(value: Any, kind: Kind, depth: int = 0) -> Iterator[tuple[Kind, str]]:
    """The texts in a value, in order, each with its kind.

    Args:
        value: Text, null, a part, or a list of these.
        kind: Kind of the texts, unless a part's type says otherwise.
        depth: Number of parts around the value.
    """
    if not value:
        return
    if isinstance(value, str):
        yield kind, value
    elif isinstance(value, list) and depth < _MOST_NESTED:
        for one in value:
            yield from _parts(one, kind, depth + 1)
    elif isinstance(value, Mapping) and depth < _MOST_NESTED:
        yield from _part(value, kind, depth)
    else:
        raise TypeError(f"{kind} of the reply is {value!r}, which is no text")


def _part(part: Mapping[str, Any], kind: Kind, depth: int) -> Iterator[tuple[Kind, str]]:
    name = str(part.get("type") or "text")
    text = next((part[one] for one in _FIELDS if part.get(one)), None)
    if text is not None:
        is_thought = kind == "thoughts" or name.startswith(_THOUGHTS)
        yield from _parts(text, "thoughts" if is_thought else "text", depth + 1)
    elif not any(one in part for one in _FIELDS) and not any(one in name for one in _SILENT):
        shown = f"of type {name!r}" if name in _NAMED else "of an unknown type"
        warnings.warn(
            f"the server's reply has a part {shown}, which is no text; it is left out of the reply",
            stacklevel=2,
        )
