"""Token ids of generated replies, for the prompts of later turns.

The tokens that a model generates are often not those that its tokenizer makes of the same text.
A prompt that repeats the generated ids extends the previous prompt and reply exactly, so that the
engine's cached keys and values cover both.
"""

from __future__ import annotations

import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from langchain_internvl.forks import renew_after_fork
from langchain_internvl.prompting.segments import Prompt, Segment, Words

if TYPE_CHECKING:
    from langchain_internvl.prompting.templates import ChatTemplate
    from langchain_internvl.prompting.tokenization import PromptTokenizer

MOST_REPLIES = 1024
MOST_TOKENS = 1 << 18
"""Limits of a store: replies, and tokens of all of them; the oldest are dropped first."""


@dataclass(frozen=True)
class GeneratedWords(Words):
    """Text of an earlier reply with the ids that the model generated for it.

    Attributes:
        ids: The token ids; they decode to `text`.
    """

    ids: tuple[int, ...] = ()


class ReplyIds:
    """Token ids of the latest replies of one tokenizer, by the ids of their messages.

    Args:
        tokenizer: The tokenizer, whose special tokens are part of a reply's text.
    """

    def __init__(self, tokenizer: PromptTokenizer) -> None:
        self._bytes = tokenizer.token_bytes
        self._added = {token.id: token.content.encode() for token in tokenizer.added_tokens}
        self._kept: OrderedDict[str, tuple[str, array[int]]] = OrderedDict()
        self._tokens = 0
        self._renew_lock()
        renew_after_fork(self, ReplyIds._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def keep(self, message_id: str, ids: Sequence[int]) -> None:
        """Keep the ids of a reply, without the token that ended it.

        Args:
            message_id: Id of its message.
            ids: The token ids.
        """
        # Hidden control tokens are part of this text but not of the message. The two then differ,
        # so that a later prompt does not repeat these ids.
        data = b"".join(self._added.get(one) or self._bytes.get(one, b"") for one in ids)
        text = data.decode("utf-8", "replace")
        with self._lock:
            self._drop(message_id)
            self._kept[message_id] = text, array("q", ids)
            self._tokens += len(ids)
            while len(self._kept) > MOST_REPLIES or self._tokens > MOST_TOKENS:
                self._drop(next(iter(self._kept)))

    def find(self, message_id: str | None, text: str) -> GeneratedWords | None:
        """The reply of a message; None: unknown, or the message has been changed since.

        Args:
            message_id: Id of the message; None: none.
            text: Its text in the prompt, tool calls included. It equals that of the reply, except
                that surrounding white space was stripped.
        """
        if message_id is None or not text:
            return None
        with self._lock:
            raw, ids = self._kept.get(message_id, ("", ()))
            if not raw or text != raw.strip():
                return None
            self._kept.move_to_end(message_id)
        return GeneratedWords(raw, tuple(ids))

    def _drop(self, message_id: str) -> None:
        _, ids = self._kept.pop(message_id, ("", ()))
        self._tokens -= len(ids)


class _Stores:
    """The stores of all tokenizers."""

    def __init__(self) -> None:
        self._of: WeakKeyDictionary[PromptTokenizer, ReplyIds] = WeakKeyDictionary()
        self._renew_lock()
        renew_after_fork(self, _Stores._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def of(self, tokenizer: PromptTokenizer) -> ReplyIds:
        """The store of a tokenizer."""
        with self._lock:
            if tokenizer not in self._of:
                self._of[tokenizer] = ReplyIds(tokenizer)
            return self._of[tokenizer]


_STORES = _Stores()


def replies_of(tokenizer: PromptTokenizer) -> ReplyIds:
    """The store of a tokenizer, which all chat models with the same checkpoint share."""
    return _STORES.of(tokenizer)


def repeats_replies(template: ChatTemplate) -> bool:
    """Whether an assistant turn has the same frame in a later prompt as while it was generated."""
    frame = template.assistant
    return frame.open == template.reply and frame.close.startswith(template.stop)


def with_generated_ids(
    segments: Sequence[Segment], message_id: str | None, replies: ReplyIds
) -> Sequence[Segment]:
    """An assistant turn with the ids of its reply, if they are known and the text is unchanged."""
    # Grounding markup and calls are part of the text; a turn with images is no reply.
    if not all(hasattr(segment, "text") for segment in segments):
        return segments
    found = replies.find(message_id, "".join(getattr(one, "text", "") for one in segments))
    return segments if found is None else [found]


def encode_prompt(
    tokenizer: PromptTokenizer, prompt: Prompt, context_tokens: Sequence[int]
) -> list[int]:
    """The token ids of a prompt, with the generated ids of earlier replies.

    Args:
        tokenizer: The tokenizer.
        prompt: The prompt.
        context_tokens: Number of context tokens of each image.
    """
    places = [place for place, one in enumerate(prompt.segments) if isinstance(one, GeneratedWords)]
    if not places:
        return tokenizer.encode(prompt, context_tokens)
    prefix = len(tokenizer.encode(Prompt(()), ()))
    ids: list[int] = []
    start = 0
    # A control token precedes and follows each reply, so that both sides are tokenised apart.
    for place in (*places, len(prompt.segments)):
        part = replace(prompt, segments=prompt.segments[start:place])
        ids += tokenizer.encode(part, context_tokens)[prefix if start else 0 :]
        if place < len(prompt.segments):
            ids += getattr(prompt.segments[place], "ids", ())
        start = place + 1
    return ids
