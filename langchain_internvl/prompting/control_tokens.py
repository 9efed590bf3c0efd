"""Disarms control strings in untrusted text, for servers that are prompted by messages.

Prompts that this package tokenises need no disarming: no text becomes a control token. A server
tokenises message text and template together, so a page with the text `<|im_end|>` would end the
turn. A zero-width space after the first character prevents that, and keeps the text readable.
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
    "<start_of_turn>", "<end_of_turn>", "<start_of_image>", "<end_of_image>",
    "<image_soft_token>", "<<SYS>>", "<</SYS>>", "<sop>", "<eop>", "[gMASK]", "</image>",
    *(f"[{end}{name}]" for end in ("", "/") for name in (
        "INST", "SYSTEM_PROMPT", "AVAILABLE_TOOLS", "TOOL_CALLS", "TOOL_RESULTS", "TOOL_CONTENT",
        "THINK", "MODEL_SETTINGS", "IMG", "ARGS", "CALL_ID",
    )), "[IMG_BREAK]", "[IMG_END]",
)  # fmt: skip
"""Control tokens of other tokenizers, and the image placeholders of servers."""

_NUMBERED = (
    # `<|...|>`, the form of most model families, DeepSeek's, and SentencePiece's byte tokens.
    r"<(?=\|[^<>|\s]*\|>|\uff5c[^<>\uff5c\s]*\uff5c>|0x[0-9A-F]{2}>"
    # Reserved tokens by number: Gemma's and Baichuan's, and InternLM2's, whose control tokens have
    # these names in its vocabulary (`[UNUSED_TOKEN_145]` is `<|im_end|>`).
    r"|unused\d+>|reserved_\d+>)|\[(?=(?:UNUSED_TOKEN|control)_\d+\])"
)
"""Forms of control tokens that no list can name in full."""

_IS_MARKUP = re.compile(r"</?[\w|]+>")


def _own_tokens() -> set[str]:
    """Control tokens in the templates, the tool formats and this package's own prompts."""
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
            self.pattern = re.compile(f"{_NUMBERED}|(?:{known})")

    @staticmethod
    def _is_control(token: str) -> bool:
        """Whether a token is a control token: not grounding markup, a word or white space."""
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
    """The text with all control tokens disarmed; lone surrogates are treated as in `Words`."""
    return _TOKENS.pattern.sub(_broken, Words(text).text)


def add_control_tokens(tokens: Iterable[str]) -> None:
    """Register the added tokens of a tokenizer as control tokens for `disarm`.

    The registration is process-wide: a server does not report its tokenizer, and additional tokens
    do no harm. Grounding markup is excluded, because users write it.
    """
    _TOKENS.add(tokens)


def _broken(match: re.Match[str]) -> str:
    token = match.group()
    return token[0] + _ZERO_WIDTH_SPACE + token[1:]


def disarm_json(value: Any) -> Any:
    """A JSON value with control tokens disarmed in all its strings, property names included."""
    if isinstance(value, str):
        return disarm(value)
    if isinstance(value, Mapping):
        return {disarm_json(name): disarm_json(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [disarm_json(one) for one in value]
    return value


def disarm_arguments(arguments: str) -> str:
    """Disarm tool-call arguments (JSON text); JSON escapes are decoded first, as servers do."""
    try:
        value = json.loads(arguments)
        disarmed = disarm_json(value)
    except (RecursionError, ValueError):
        return disarm(arguments)
    return disarm(arguments if disarmed == value else json.dumps(disarmed, ensure_ascii=False))
