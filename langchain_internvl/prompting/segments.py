"""A prompt as a sequence of segments, before it becomes text or token ids.

Trusted and untrusted text are separate types: only `Markup` and `Slot`, which this package writes,
become control tokens. `Words` is text of users and documents, and never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from langchain_internvl.messages.conversation import Image

IMAGE_OPEN = "<img>"
IMAGE_CONTEXT = "<IMG_CONTEXT>"
IMAGE_CLOSE = "</img>"

GROUNDING_MARKUP = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")
"""Grounding markup, which users write themselves; it is allowed in text, and delimits no turns."""


@dataclass(frozen=True)
class Markup:
    """Trusted text of a template; control tokens in it take effect."""

    text: str


@dataclass(frozen=True)
class Words:
    """Untrusted text of a message; control tokens in it are plain text.

    A lone surrogate, as from malformed JSON, becomes U+FFFD; a pair of surrogates becomes the
    character that it encodes.
    """

    text: str

    def __post_init__(self) -> None:
        whole = self.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        object.__setattr__(self, "text", whole)


@dataclass(frozen=True)
class Slot:
    """The position of one image, or of several joined between one pair of image tokens.

    Attributes:
        images: Indices into `Prompt.images`.
    """

    images: tuple[int, ...]


Segment = Markup | Words | Slot


@dataclass(frozen=True)
class Prompt:
    """A rendered conversation.

    Attributes:
        segments: The segments, in order.
        images: The images of the slots, in prompt order; video frames are images.
    """

    segments: tuple[Segment, ...]
    images: tuple[Image, ...] = ()

    def to_text(self, context_tokens: Sequence[int] | None = None) -> str:
        """The prompt as text.

        Args:
            context_tokens: Number of context tokens of each image; None: write `<image>` for
                every slot, the reference's notation.
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
