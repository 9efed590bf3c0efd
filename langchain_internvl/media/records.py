"""What the processes that decode media write, and how it is read.

A record is a letter, the length of what follows as four bytes (little-endian), and that.
"""

from __future__ import annotations

from typing import IO, Any, BinaryIO

HEAD = b"H"
"""JSON: what is known of the whole."""
PICTURE = b"F"
"""Height and width as four bytes each, and the pixels: uint8 [height, width, 3], RGB."""
FAULT = b"E"
"""Text: what is wrong with the file."""
LIMIT = b"L"
"""Text: which limit it is over."""
REFUSAL = b"R"
"""Text: what is wrong with what was asked."""
LACK = b"I"
"""Text: what is missing on this machine."""


def write_record(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    """Write a record."""
    stream.write(kind + len(data).to_bytes(4, "little") + data)


def write_picture(stream: BinaryIO, pixels: Any) -> None:
    """Write the record of a uint8 array [height, width, 3]."""
    height, width = pixels.shape[:2]
    size = height.to_bytes(4, "little") + width.to_bytes(4, "little")
    write_record(stream, PICTURE, size + pixels.tobytes())


def read_record(stream: IO[bytes], most: int) -> tuple[bytes, bytes]:
    """Read a record.

    Args:
        stream: Where from.
        most: Most bytes that it may have.

    Returns:
        Its letter, and what follows.

    Raises:
        EOFError: The stream ends.
        ValueError: It is longer.
    """
    head = _read_exactly(stream, 5)
    length = int.from_bytes(head[1:], "little")
    if length > most:
        raise ValueError(f"a record of {length} bytes")
    return head[:1], _read_exactly(stream, length)


def _read_exactly(stream: IO[bytes], length: int) -> bytes:
    data = stream.read(length)
    if len(data) < length:
        raise EOFError
    return data
