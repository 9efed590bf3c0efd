"""Format of the records that decoding processes write to their standard output.

A record is a one-letter kind, the length of its data as four bytes (little-endian), and the data.
"""

from __future__ import annotations

from typing import IO, Any, BinaryIO

HEAD = b"H"
"""JSON: metadata of the whole medium."""
IMAGE = b"F"
"""Height and width as four bytes each, and the pixels: uint8 [height, width, 3], RGB."""
DATA = b"D"
"""Bytes of an encoded image."""
FAULT = b"E"
"""Text: error in the file."""
LIMIT = b"L"
"""Text: limit that the medium exceeds."""
REFUSAL = b"R"
"""Text: error in the request."""
LACK = b"I"
"""Text: name of the missing module."""


def write_record(stream: BinaryIO, kind: bytes, data: bytes) -> None:
    """Write a record."""
    stream.write(kind + len(data).to_bytes(4, "little") + data)


def write_image(stream: BinaryIO, pixels: Any) -> None:
    """Write the record of a uint8 array [height, width, 3]."""
    height, width = pixels.shape[:2]
    length = (8 + 3 * height * width).to_bytes(4, "little")
    stream.write(IMAGE + length + height.to_bytes(4, "little") + width.to_bytes(4, "little"))
    # Contiguous pixels are not copied; a video has 6 MB in each frame.
    stream.write(pixels.data if pixels.flags.c_contiguous else pixels.tobytes())


def read_record(stream: IO[bytes], most: int) -> tuple[bytes, bytes]:
    """Read a record.

    Args:
        stream: Output of the process.
        most: Maximum length of the data, in bytes.

    Returns:
        Kind and data.

    Raises:
        EOFError: The stream ends.
        ValueError: The data is longer than `most`.
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
