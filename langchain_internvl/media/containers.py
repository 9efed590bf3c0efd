"""Admits video files by the signature of their container, before FFmpeg opens them.

FFmpeg follows playlists (HLS, DASH, ffconcat, SDP ...), so an untrusted file could read frames of
any file on this machine. FFmpeg detects formats behind an ID3v2 tag too, and some formats anywhere
in the text at the beginning of a file.
"""

from __future__ import annotations

from pathlib import Path

from langchain_internvl.media.signatures import name_of
from langchain_internvl.media.video_signatures import has_signature

FORMATS = (
    "asf", "av1", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mov",
    "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "webm", "yuv4mpegpipe",
)  # fmt: skip
"""FFmpeg's names of the admitted formats, none of which can open another file."""

_PLAYLIST_MARKS = (b"#extm3u", b"ffconcat", b"<mpd", b"<smil", b"<asx", b"<compositionplaylist",
                   b"[reference]", b"[playlist]", b"c=in ip")  # fmt: skip
_MOST_TAGS = 16
_PROBED = 1 << 20
"""Maximum number of bytes that FFmpeg reads to detect the format of a file."""


def check_container(path: Path) -> None:
    """Refuse files that are not videos, by their first bytes.

    Raises:
        ValueError: The file is text, a playlist, or not of an admitted format.
        OSError: The file cannot be read.
    """
    head = _head(path)
    text = head.partition(b"\0")[0].lower()
    if any(mark in text for mark in _PLAYLIST_MARKS):
        raise ValueError("it is a text or a playlist, no video")
    if not has_signature(head):
        kind = name_of(head) if head else "empty"
        if kind in {"a PNG image", "a WebP image"}:
            raise ValueError(
                f"it is {kind}, no video; pass the frames of an animation as a list: [frame.copy() "
                "for frame in PIL.ImageSequence.Iterator(PIL.Image.open(path))]"
            )
        raise ValueError(
            f"it is {kind}, no video; MP4, MOV, Matroska, WebM, AVI, MPEG, TS, WMV ... are read"
        )


def _head(path: Path) -> bytes:
    """The beginning of a file, without ID3v2 tags (https://id3.org/id3v2.4.0-structure, 3.1)."""
    with path.open("rb") as file:
        for _ in range(_MOST_TAGS):
            start = file.tell()
            header = file.read(10)
            if header[:3] != b"ID3" or len(header) < 10:
                file.seek(start)
                return file.read(_PROBED)
            size = 0
            for byte in header[6:]:
                size = size << 7 | byte & 0x7F
            footer = 10 if header[5] & 0x10 else 0
            file.seek(start + 10 + size + footer)
    raise ValueError(f"it has more than {_MOST_TAGS} ID3 tags, and is no video")
