"""Detects the kind of a file by its first bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from langchain_internvl.media.images import sniff_mime_type
from langchain_internvl.media.plain_text import has_mark
from langchain_internvl.media.signatures import is_pdf
from langchain_internvl.media.sources import Base64Source, BytesSource, PathSource, decode_base64
from langchain_internvl.media.video_signatures import has_signature

if TYPE_CHECKING:
    from langchain_internvl.media.sources import Source

Kind = Literal["image", "video", "pdf", "text"]

_HEAD = 1 << 18


def sniff_kind(source: Source) -> Kind | None:
    """The kind of a file, by its first 256 KiB.

    Args:
        source: The file; a URL is not downloaded.

    Returns:
        The kind; None if it is not recognised, or the file cannot be read.

    Raises:
        MediaError: The source is not valid base64.
    """
    head = read_head(source)
    if not head:
        return None
    if is_pdf(head):
        return "pdf"
    if sniff_mime_type(head) is not None:
        return "image"
    if has_signature(head):
        return "video"
    return "text" if _is_text(head) else None


def read_head(source: Source) -> bytes:
    """The first 256 KiB of a source; empty for a URL, and for a file that cannot be read.

    Raises:
        MediaError: The source is not valid base64.
    """
    if isinstance(source, BytesSource):
        return source.data[:_HEAD]
    if isinstance(source, Base64Source):
        compact = "".join(source.data[: 2 * _HEAD].split())
        return decode_base64(compact[: len(compact) // 4 * 4][:_HEAD], source.name)
    if isinstance(source, PathSource):
        try:
            if source.path.is_file():
                with source.path.open("rb") as file:
                    return file.read(_HEAD)
        except (OSError, ValueError):
            return b""
    return b""


def _is_text(head: bytes) -> bool:
    if has_mark(head):
        return True
    try:
        return b"\0" not in head and bool(head.decode("utf-8"))
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
