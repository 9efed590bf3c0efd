"""Control strings in what people and documents say, for servers that read prompts as one text.

Where we make the tokens nothing that a text says becomes a control token. A server that is asked
by messages tokenises words and template together, so a page that spells `<|im_end|>` would end the
turn. A zero-width space after the first sign keeps it words, and readable.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from langchain_internvl.prompting.segments import (
    GROUNDING_MARKUP,
    IMAGE_CLOSE,
    IMAGE_CONTEXT,
    IMAGE_OPEN,
    Words,
)
from langchain_internvl.prompting.templates import TEMPLATES
from langchain_internvl.prompting.tool_formats import TOOL_FORMATS
from langchain_internvl.reply_text.reasoning import CLOSE, OPEN

_FAMILY_TOKENS = (
    "<IMAGE_TOKEN>", "<image>", "<video>", "<pad>", "<s>", "</s>", "<unk>", "<bos>", "<eos>",
    "<start_of_turn>", "<end_of_turn>", "[INST]", "[/INST]",
)  # fmt: skip
"""Tokens of other tokenizers, and what servers replace by images."""

_IS_MARKUP = re.compile(r"</?[\w|]+>")


def _own_tokens() -> set[str]:
    """Tokens that the templates, the tool formats and this package's own prompts write."""
    texts = [IMAGE_OPEN, IMAGE_CLOSE, IMAGE_CONTEXT, OPEN, CLOSE]
    for template in TEMPLATES.values():
        frames = (template.system, template.user, template.assistant)
        texts += [text for frame in frames for text in (frame.open, frame.close, frame.empty)]
        texts += [template.reply, template.stop]
    for tools in TOOL_FORMATS:
        texts += [value for value in vars(tools).values() if isinstance(value, str)]
    return {token for text in texts for token in _IS_MARKUP.findall(text)}


class _Tokens:
    """The known control tokens, and the expression that finds them."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self._tokens: set[str] = set()
        self.pattern = re.compile("")
        self.add(tokens)

    def add(self, tokens: Iterable[str]) -> None:
        new = {one for one in tokens if self._is_control(one)} - self._tokens
        if new or not self._tokens:
            self._tokens = self._tokens | new
            known = "|".join(map(re.escape, sorted(self._tokens, key=len, reverse=True)))
            # `<|...|>`, as all families write them, and bytes of SentencePiece.
            self.pattern = re.compile(rf"<(?=\|[^<>|\s]*\|>|0x[0-9A-F]{{2}}>)|(?:{known})")

    @staticmethod
    def _is_control(token: str) -> bool:
        """Users write the grounding markup; words and white space frame nothing."""
        return (
            token not in GROUNDING_MARKUP
            and len(token) > 2
            and not any(char.isspace() for char in token)
            and not token[0].isalnum()
            and any(char.isalnum() for char in token)
        )


_ZERO_WIDTH_SPACE = "\u200b"

_TOKENS = _Tokens({*_FAMILY_TOKENS, *_own_tokens()})


def disarm(text: str) -> str:
    """The same text with no control token in it; see `Words` for halves of surrogate pairs."""
    return _TOKENS.pattern.sub(_broken, Words(text).text)


def add_control_tokens(tokens: Iterable[str]) -> None:
    """Let `disarm` treat the added tokens of a tokenizer as control tokens too.

    It holds for the whole process: a server does not say which tokenizer it has, and one token
    more does no harm. The grounding markup is left out, as users write it.
    """
    _TOKENS.add(tokens)


def _broken(match: re.Match[str]) -> str:
    token = match.group()
    return token[0] + _ZERO_WIDTH_SPACE + token[1:]


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
