"""Tells whether the encoded pixels of an image are cut off: their decoders often do not.

PDFium and libtiff fill the rows that are missing with white or black.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Collection

from PIL import Image, TiffImagePlugin

_TAILS = (b"", *(bytes(seed * place * place % 251 for place in range(1, 400)) for seed in (7, 41)))
"""Bytes that may follow the data: none, and two kinds of codes of black and white."""


_LZW_CLEAR, _LZW_END = 256, 257
_RUNS_END = 128
_MOST_STEPS = 1 << 21
"""Maximum number of runs or segments that are read, one by one."""


def is_group4_cut(data: bytes, width: int, height: int) -> bool:
    """Whether data of CCITT group 4 (ITU-T T.6) ends before the last row.

    The end marks are optional. But a decoder that has all rows, or has met the marks, does not read
    on: what follows the data changes the image only if a row is missing.

    Args:
        data: The encoded rows.
        width: Pixels of a row.
        height: Number of rows.
    """
    first, *others = (_group4(data + tail, width, height) for tail in _TAILS)
    return any(one != first for one in others)


def _group4(data: bytes, width: int, height: int) -> bytes | None:
    """Packed pixels, as libtiff decodes them from a TIFF around the data; None: it does not."""
    tags = {256: width, 257: height, 258: 1, 259: 4, 262: 0, 273: 0, 277: 1,
            278: height, 279: len(data)}  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    entries = (
        struct.pack("<HHII", tag, 4, 1, start if tag == 273 else value)
        for tag, value in tags.items()
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    file = io.BytesIO(head + b"".join(entries) + bytes(4) + data)
    try:
        with TiffImagePlugin.TiffImageFile(file) as image:
            pixels: bytes = image.tobytes()
            return pixels
    except (OSError, Image.DecompressionBombError):
        return None


def is_group3_cut(data: bytes, height: int) -> bool:
    """Whether data of CCITT group 3 (ITU-T T.4) with marks between the rows has too few of them.

    The mark that ends a row occurs nowhere else. Two in a row end the page. Encoders that write
    marks between the rows only have one less than rows. Data without marks are not checked.

    Args:
        data: The encoded rows.
        height: Number of rows.
    """
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}" if data else ""
    marks = len(_ROW_END.findall(bits))
    return 0 < marks < height - 1 and _PAGE_END.search(bits) is None


_ROW_END = re.compile("0{11,}1")
_PAGE_END = re.compile("0{11,}11?0{11,}1")
"""Two marks, each perhaps with a bit that tells how the next row is coded."""


def is_jbig2_cut(data: bytes) -> bool:
    """Whether data of JBIG2 without a file header (ITU-T T.88, 7.2) ends within a segment."""
    place = 0
    for _ in range(_MOST_STEPS):
        if place >= len(data):
            break
        try:
            number, flags, many = struct.unpack_from(">IBB", data, place)
            place += 5
            if many >> 5 == 7:
                (many,) = struct.unpack_from(">I", data, place)
                many &= 0x1FFF_FFFF
                place += 4 + (many + 8) // 8
            else:
                many >>= 5
                place += 1
            place += many * (1 if number <= 256 else 2 if number <= 65_536 else 4)
            place += 4 if flags & 0x40 else 1
            (length,) = struct.unpack_from(">I", data, place)
        except struct.error:
            return False  # a line end, or padding, after the last segment
        if length == 0xFFFF_FFFF:
            return False  # it ends with a mark
        place += 4 + length
    return place > len(data)


def is_jpeg_cut(data: bytes) -> bool:
    """Whether a JPEG (ITU-T T.81, annex B) has no end mark after its last scan."""
    return data.rfind(b"\xff\xd9") <= data.rfind(b"\xff\xda") or data[:2] != b"\xff\xd8"


def is_jpeg2000_cut(data: bytes) -> bool:
    """Whether a codestream of JPEG 2000 (ITU-T T.800, annex A) has no end mark.

    The bytes of the mark cannot occur within its packets.
    """
    start = data.find(b"\xff\x4f\xff\x51")
    return start >= 0 and data.find(b"\xff\xd9", start) < 0


def is_lzw_cut(data: bytes, *, early_change: bool = True) -> bool:
    """Whether data of LZW (ISO 32000-1, 7.4.4) has no end mark.

    Args:
        data: The encoded bytes.
        early_change: Whether codes become longer one code early.
    """
    entries, bits, place, is_first = 258, 9, 0, True
    while place + bits <= 8 * len(data):
        word = int.from_bytes(data[place // 8 : place // 8 + 3].ljust(3, b"\0"), "big")
        code = word >> (24 - place % 8 - bits) & (1 << bits) - 1
        place += bits
        if code == _LZW_END:
            return False
        if code == _LZW_CLEAR:
            entries, bits, is_first = 258, 9, True
            continue
        entries += not is_first  # each code but the first adds one
        is_first = False
        if entries + early_change >= 1 << bits and bits < 12:
            bits += 1
    return True


def is_run_length_cut(data: bytes, sizes: Collection[int]) -> bool:
    """Whether data of run lengths (ISO 32000-1, 7.4.5) has no end mark, and no usual size.

    Args:
        data: The encoded bytes.
        sizes: Sizes that the decoded bytes may have.
    """
    place = size = 0
    most = max(sizes)
    for _ in range(_MOST_STEPS):
        if place >= len(data):
            return size not in sizes
        length = data[place]
        if length == _RUNS_END or size > most:
            return False
        place += 2 if length > _RUNS_END else length + 2
        size += 257 - length if length > _RUNS_END else length + 1
    return False
