"""Data classes of conversations, independent of LangChain.

A conversation is a sequence of turns, a turn a sequence of parts. `convert.py` makes them from
LangChain's messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from langchain_internvl.media.sources import Source

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True)
class Text:
    """Untrusted text of a message; it never becomes a control token, even if it looks like one.

    Attributes:
        text: The text.
        stands_alone: Whether it is a whole, such as the text of a file: it does not go on in the
            text beside it, and is on lines of its own.
    """

    text: str
    stands_alone: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class TextFile:
    """A text file that is not read yet; `text_files.py` makes a `Text` of it.

    Attributes:
        source: The file.
        charset: The stated encoding; None: none is.
        place: Position of its block, for error messages.
    """

    source: Source
    charset: str | None
    place: str


@dataclass(frozen=True)
class LostMedia(Text):
    """Text in place of a medium whose bytes are no longer in memory.

    Attributes:
        kind: "image", "video" or "pdf".
    """

    stands_alone: bool = field(default=True, compare=False)
    kind: str = "image"


@dataclass(frozen=True)
class Instruction:
    """Trusted text that this package adds to the system turn; its control tokens take effect."""

    text: str


@dataclass(frozen=True)
class Image:
    """One image.

    Attributes:
        source: Source of its bytes.
        min_tiles: Minimum number of tiles; None: the model's setting.
        max_tiles: Maximum number of tiles; None: the model's setting.
    """

    source: Source
    min_tiles: int | None = None
    max_tiles: int | None = None


@dataclass(frozen=True)
class Video:
    """A video: its frames as images, or a file that is not decoded yet.

    Attributes:
        frames: The frames in order; empty if `source` is given.
        source: A video file.
        max_tiles: Maximum number of tiles of each frame; None: the model's setting.
        num_frames: Number of frames sampled from the file; None: the model's setting.
        bound: Time range that frames are sampled from, start and end in seconds; None: all.
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
    """A PDF file, whose pages become images.

    Attributes:
        source: The file.
        min_tiles: Minimum number of tiles of each page; None: the model's setting.
        max_tiles: Maximum number of tiles of each page; None: the model's setting.
        pages: Which pages, as `page_ranges.parse_pages` returns them; None: all.
        password: Password of an encrypted file; not part of the representation.
    """

    source: Source
    min_tiles: int | None = None
    max_tiles: int | None = None
    pages: tuple[int | tuple[int | None, ...], ...] | None = None
    password: str | None = field(default=None, repr=False)


Part = Text | Instruction | Image | Video | Document


def lacks_line_end(before: Part | None, part: Part) -> bool:
    """Whether a text that stands alone would share a line with the part beside it.

    Args:
        before: The part before; None: there is none.
        part: A text or a medium.
    """
    if not isinstance(before, Text) or before.text.endswith("\n"):
        return False
    if not isinstance(part, Text):
        return before.stands_alone
    return (before.stands_alone or part.stands_alone) and not part.text.startswith("\n")


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
        message_id: Id of the message; None: not known.
    """

    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    message_id: str | None = None
