"""A prompt as a sequence of segments, before it becomes text or token ids.

Trust is kept apart from text: only `Markup` and `Slot`, which this package writes, make control
tokens. `Words` is what people and documents say, and stays words whatever it spells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_internvl.messages.conversation import Image

IMAGE_OPEN = "<img>"
IMAGE_CONTEXT = "<IMG_CONTEXT>"
IMAGE_CLOSE = "</img>"

GROUNDING_MARKUP = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
"""Tokens that users write themselves; they frame nothing and are allowed in text."""


@dataclass(frozen=True)
class Markup:
    """Text of a template; control tokens in it are meant."""

    text: str


@dataclass(frozen=True)
class Words:
    """Text of a message; control tokens in it are not meant.

    Half a surrogate pair, which careless JSON leaves behind, is no character and has no tokens:
    it becomes U+FFFD, and two halves the character that they are.
    """

    text: str

    def __post_init__(self) -> None:
        whole = self.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        object.__setattr__(self, "text", whole)


@dataclass(frozen=True)
class Slot:
    """The place of one image, or of several joined under one pair of image tokens.

    Attributes:
        images: Indices into `Prompt.images`.
    """

    images: tuple[int, ...]


Segment = Markup | Words | Slot


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation.

    Attributes:
        segments: What it says, in order.
        images: The images of its slots, in the order in which the model sees them; video frames
            are images.
    """

    segments: tuple[Segment, ...]
    images: tuple[Image, ...] = ()

    def to_text(self, context_tokens: Sequence[int] | None = None) -> str:
        """The prompt as text.

        Args:
            context_tokens: Number of context tokens of each image; None writes `<image>` for
                every slot instead, as prompts are shown by the reference.
        """
        texts = []
        for segment in self.segments:
            if not isinstance(segment, Slot):
                texts.append(segment.text)
            elif context_tokens is None:
                texts.append("<image>")
            else:
                count = sum(context_tokens[index] for index in segment.images)
                texts.append(IMAGE_OPEN + IMAGE_CONTEXT * count + IMAGE_CLOSE)
        return "".join(texts)
