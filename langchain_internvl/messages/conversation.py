"""Conversations as turns of parts, without types of LangChain.

`convert.py` makes them from messages; prompts and requests are made from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from langchain_internvl.media.sources import Source

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Text:
    """Text of a message. It never becomes a control token, even if it spells one."""

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
    """Text that this package adds to the system turn; control tokens in it are kept."""

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
    """A video: its frames as images, or a file that was not decoded yet.

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
        """Number of tiles and frames, and the bound, by name."""
        names = ("max_tiles", "num_frames", "bound")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Document:
    """A PDF file, to be shown as images of its pages.

    Attributes:
        source: The file.
        min_tiles: Fewest tiles of each page; None: the model's setting.
        max_tiles: Most tiles of each page; None: the model's setting.
        pages: Which pages, as `page_ranges.parse_pages` returns them; None: all.
    """

    source: Source
    min_tiles: int | None = None
    max_tiles: int | None = None
    pages: tuple[int | tuple[int | None, ...], ...] | None = None


Part = Text | Instruction | Image | Video | Document


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool by the model.

    Attributes:
        name: Name of the tool.
        arguments: The arguments as JSON text.
        id: Id of the call; None: not known.
    """

    name: str
    arguments: str
    id: str | None = None


@dataclass(frozen=True)
class Turn:
    """One message.

    Attributes:
        role: Role of the message.
        parts: Texts and media in order.
        tool_calls: Tool calls of an assistant turn, after its text.
        tool_call_id: Id of the call that a tool turn answers; None: not known.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
