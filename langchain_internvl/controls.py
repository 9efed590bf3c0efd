"""Control strings in what people and documents say, for servers that read prompts as one text.

Where we make the tokens nothing that a text says becomes a control token. A server that is asked
by messages tokenises words and template together, so a page that spells `<|im_end|>` would end the
turn. A zero-width space after the first sign keeps it words, and readable.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from langchain_internvl.conversation import Text
from langchain_internvl.segments import Words

if TYPE_CHECKING:
    from langchain_internvl.conversation import Turn

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


def disarm_turn(turn: Turn) -> Turn:
    """A turn whose words, and arguments of calls, spell no control token."""
    parts = tuple(
        Text(disarm(part.text)) if isinstance(part, Text) else part for part in turn.parts
    )
    calls = tuple(replace(call, arguments=disarm(call.arguments)) for call in turn.tool_calls)
    return replace(turn, parts=parts, tool_calls=calls)
