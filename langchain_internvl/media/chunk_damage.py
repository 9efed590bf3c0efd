"""Finds damaged chunks within a video: FFmpeg goes on at the next one, and reports nothing.

`video_damage` finds what is missing at the end. Damage within the data of a chunk is found by its
decoder.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_MOST_INDEX = 1 << 24
"""Maximum number of bytes of an index that are read, for a million chunks."""

_MOST_TAGS = 1 << 20
"""Maximum number of tags that are walked."""

_TAGS = frozenset({8, 9, 15, 18})
"""Types of FLV tags: sound, video, and data in two formats."""


def chunk_damage(path: Path) -> str | None:
    """Why frames within a video may be missing, as far as its chunks tell.

    Args:
        path: A video of an admitted container; AVI and FLV are checked.

    Returns:
        The damage; None: none was found.
    """
    with path.open("rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"AVI ":
            return _avi_damage(file)
        if head[:3] == b"FLV" and len(head) >= 9:
            return _flv_damage(file, path.stat().st_size, int.from_bytes(head[5:9], "big") + 4)
    return None


def _avi_damage(file: BinaryIO) -> str | None:
    """Chunks of frames that are not where the index `idx1` (Microsoft's AVI RIFF) says they are."""
    movi, index = _lists_of(file)
    if movi is None:
        return None
    entries = [
        (kind, offset, size)
        for kind, _, offset, size in struct.iter_unpack("<4sIII", index)
        if size and kind[:2].isdigit() and kind[2:] in {b"dc", b"db"}
    ]
    # Offsets count from the name of the list, or from the beginning of the file.
    first = entries[:64]
    base = max(
        (movi, 0), key=lambda base: sum(_is_at(file, base + at, kind) for kind, at, _ in first)
    )
    lost = sum(not _is_at(file, base + offset, kind, size) for kind, offset, size in entries)
    if not lost or 2 * lost > len(entries):  # an index of another file says nothing
        return None
    return f"{lost} of the {len(entries)} chunks that its index names are damaged"


def _lists_of(file: BinaryIO) -> tuple[int | None, bytes]:
    """Offset of the name of the list `movi`, and the entries of the index."""
    movi, offset = None, 12
    while len(head := _read(file, offset, 12)) == 12:
        kind, size = struct.unpack_from("<4sI", head)
        if kind == b"LIST" and head[8:] == b"movi":
            movi = offset + 8
        elif kind == b"idx1":
            index = _read(file, offset + 8, min(size, _MOST_INDEX))
            return movi, index[: len(index) // 16 * 16]
        elif kind not in {b"LIST", b"JUNK"}:
            break
        offset += 8 + size + size % 2
    return None, b""


def _is_at(file: BinaryIO, offset: int, kind: bytes, size: int | None = None) -> bool:
    """Whether a chunk of a kind, and of a size, begins at an offset."""
    head = _read(file, offset, 8)
    return head[:4] == kind and (size is None or head[4:] == struct.pack("<I", size))


def _flv_damage(file: BinaryIO, size: int, offset: int) -> str | None:
    """A tag whose type is none (Adobe's specification of FLV, annex E), with more after it."""
    for _ in range(_MOST_TAGS):
        head = _read(file, offset, 4)
        if size - offset < 2 * 11 or not any(head):
            return None
        if head[0] & 31 not in _TAGS:
            return f"what begins at byte {offset} is damaged"
        offset += 15 + int.from_bytes(head[1:], "big")
    return None


def _read(file: BinaryIO, offset: int, count: int) -> bytes:
    file.seek(offset)
    return file.read(count)
