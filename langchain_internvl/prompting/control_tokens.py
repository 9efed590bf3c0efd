"""Control strings in what people and documents say, for servers that read prompts as one text.

Where we make the tokens nothing that a text says becomes a control token. A server that is asked
by messages tokenises words and template together, so a page that spells `<|im_end|>` would end the
turn. A zero-width space after the first sign keeps it words, and readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from langchain_internvl.prompting.segments import Words

_NAMES = ("IMAGE_TOKEN", "IMG_CONTEXT", "image", "img", "pad", "s", "tool_call", "tool_response",
          "unk", "video")  # fmt: skip
"""What stands between `<` and `>` in tokens of InternVL's tokenizers, and in what servers put
images for; the grounding markup is not among them, as users write it."""

_CONTROL = re.compile(rf"<(?=\|[^<>|\s]*\|>|/?(?:{'|'.join(_NAMES)})>|0x[0-9A-F]{{2}}>)")
"""Also `<|...|>`, as all families write them, and bytes of SentencePiece."""

_ZERO_WIDTH_SPACE = "\u200b"


def disarm(text: str) -> str:
    """The same words, none of which spells a control token; see `Words` for halves of pairs."""
    return _CONTROL.sub("<" + _ZERO_WIDTH_SPACE, Words(text).text)


def disarm_json(value: Any) -> Any:
    """A JSON value none of whose texts, names of properties too, spells a control token."""
    if isinstance(value, str):
        return disarm(value)
    if isinstance(value, Mapping):
        return {disarm_json(name): disarm_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [disarm_json(one) for one in value]
    return value


def disarm_arguments(arguments: str) -> str:
    """Arguments of a call, as JSON: servers read them, so escapes of JSON must hide nothing."""
    try:
        value = json.loads(arguments)
        told = disarm_json(value)
    except (RecursionError, ValueError):
        return disarm(arguments)
    return disarm(arguments if told == value else json.dumps(told, ensure_ascii=False))
