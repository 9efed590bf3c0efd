"""Leaves out the last fragment of an MP4 file if its head is cut off.

FFmpeg reads the heads of all fragments when it opens a file. The rest of a table that is cut off is
whatever was in memory: FFmpeg refuses the file, or finds other frames each time.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

_MOST_BOXES = 1 << 20
"""Maximum number of boxes that are walked; a film has some thousands."""


def open_whole_fragments(path: Path) -> FileUntil | None:
    """Open an MP4 file up to the fragment whose head (ISO 14496-12, 8.8.4: `moof`) is cut off.

    Args:
        path: A file of any format.

    Returns:
        The file, which ends before that fragment; None: there is none.
    """
    with path.open("rb") as file:
        end = _cut_head(file, path.stat().st_size)
    return None if end is None else FileUntil(path, end)


def _cut_head(file: BinaryIO, size: int) -> int | None:
    """Offset of a fragment's head that is cut off."""
    offset = 0
    for _ in range(_MOST_BOXES):
        file.seek(offset)
        head = file.read(16)
        if len(head) < 8:
            return None
        length, kind = struct.unpack_from(">I4s", head)
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
        if length < 8 or not kind.isalnum():
            return None
        if offset + length > size:
            return offset if kind == b"moof" else None
        offset += length
    return None


class FileUntil:
    """A file up to an offset, with the methods that PyAV calls.

    Args:
        path: The file.
        end: The offset.
    """

    def __init__(self, path: Path, end: int) -> None:
        self._file = path.open("rb")
        self._end = end

    def read(self, size: int) -> bytes:
        """Up to `size` bytes."""
        return self._file.read(max(0, min(size, self._end - self._file.tell())))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset."""
        if whence == os.SEEK_END:
            offset, whence = offset + self._end, os.SEEK_SET
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The present offset."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
