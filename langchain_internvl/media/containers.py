"""Admits video files by the signature of their container, before FFmpeg opens them.

FFmpeg follows playlists (HLS, DASH, ffconcat, SDP ...), so an untrusted file could read frames of
any file on this machine. FFmpeg detects formats behind an ID3v2 tag too, and some formats anywhere
in the text at the beginning of a file.
"""

from __future__ import annotations

from pathlib import Path

FORMATS = (
    "asf", "av1", "avi", "dv", "flv", "gif", "h264", "hevc", "ivf", "m4v", "matroska", "mov",
    "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg", "rm", "webm", "yuv4mpegpipe",
)  # fmt: skip
"""FFmpeg's names of the admitted formats, none of which can open another file."""

# Signatures: an offset, and the alternatives of the bytes there.
_SIGNATURES: tuple[tuple[int, tuple[bytes, ...]], ...] = (
    (4, (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp", b"moof")),  # MP4
    (0, (b"\x1a\x45\xdf\xa3",)),  # Matroska, WebM
    (8, (b"AVI ", b"AVIX")),  # behind RIFF and a size
    (0, (b"FLV\x01",)),
    (0, (b"OggS",)),
    (0, (b"GIF87a", b"GIF89a")),
    (0, (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",)),  # ASF, WMV
    (0, (b"\x00\x00\x01", b"\x00\x00\x00\x01")),  # MPEG and H.26x start codes
    (0, (b".RMF",)),
    (0, (b"DKIF",)),  # IVF
    (0, (b"\x06\x0e\x2b\x34\x02\x05\x01\x01",)),  # MXF
    (0, (b"nut/multimedia container",)),
    (0, (b"YUV4MPEG2 ",)),
    (0, (b"\x1f\x07\x00",)),  # DV
    (0, (b"\x12\x00\x0a", b"\x0a\x0b\x00\x00")),  # AV1 without a container
)

_TS_PACKETS = (188, 192, 204)
"""Packet lengths of transport streams, in bytes; each packet has a sync byte at the same offset."""

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
        kind = "a text or a playlist, no video" if _is_text(head) else "of no known video format"
        raise ValueError(f"it is {kind}; MP4, MOV, Matroska, WebM, AVI, MPEG, TS, WMV ... are read")


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


def has_signature(head: bytes) -> bool:
    """Whether a file begins with the signature of an admitted format."""
    return _is_transport_stream(head) or any(
        head[offset : offset + len(one)] == one for offset, ones in _SIGNATURES for one in ones
    )


def _is_transport_stream(head: bytes) -> bool:
    return any(
        len(places := head[start : start + 5 * length : length]) == 5 and set(places) == {0x47}
        for length in _TS_PACKETS
        for start in range(length)
    )


def _is_text(head: bytes) -> bool:
    try:
        return b"\0" not in head[:4096] and bool(head[:4096].decode("utf-8"))
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
