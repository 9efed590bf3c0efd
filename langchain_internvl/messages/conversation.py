"""What a conversation is to this package: turns of parts, and nothing of LangChain.

`messages.py` makes it, everything after it reads it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from langchain_internvl.media.sources import Source

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Text:
    """Words of a message; never a control token, whatever they spell."""

    text: str


@dataclass(frozen=True)
class LostMedia(Text):
    """Text in place of a medium whose bytes this process does not have any more.

    Attributes:
        kind: "image", "video" or "pdf".
    """

    kind: str = "image"


@dataclass(frozen=True)
class Instruction:
    """Words of this package's own for the system turn; tokens that they spell are meant."""

    text: str


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        source: Where its bytes come from.
        min_tiles: Fewest tiles; None: the model's setting.
        max_tiles: Most tiles; None: the model's setting.
    """

    source: Source
    min_tiles: int | None = None
    max_tiles: int | None = None


@dataclass(frozen=True)
class Video:
    """A video: its frames as images, or the file they are yet to be taken from.

    Attributes:
        frames: The frames in order; empty if `source` is given.
        source: A video file.
        max_tiles: Most tiles of each frame; None: the model's setting.
        num_frames: How many frames are taken from the file; None: the model's setting.
        bound: The part of the file that they are taken from, start and end in seconds; None: all.
    """

    frames: tuple[Image, ...] = ()
    source: Source | None = None
    max_tiles: int | None = None
    num_frames: int | None = None
    bound: tuple[float, float] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """How it is shown, by name."""
        names = ("max_tiles", "num_frames", "bound")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Document:
    """A PDF file, to be shown as images of its pages.

    Attributes:
        source: The file.
        min_tiles: Fewest tiles of each page; None: the model's setting.
        max_tiles: Most tiles of each page; None: the model's setting.
    """

    source: Source
    min_tiles: int | None = None
    max_tiles: int | None = None


Part = Text | Instruction | Image | Video | Document


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool by the model.

    Attributes:
        name: Name of the tool.
        arguments: The arguments as JSON text.
        id: What tells calls apart, if known.
    """

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        role: Who speaks.
        parts: What is said and shown, in order.
        tool_calls: What an assistant turn calls, after its words.
        tool_call_id: The call that a tool turn answers, if known.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
