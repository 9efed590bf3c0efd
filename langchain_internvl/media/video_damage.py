"""Finds videos that are cut off: decoders report no damage, and show a shorter video.

The chunks of a container state their lengths, which need no decoder. What is cut off between two
chunks is found by the duration in the header (`VideoReader.missing`). A transport or program
stream that ends between two packets, YUV4MPEG2 that ends between two frames and a stream without a
container may end there: nothing in them tells.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from langchain_internvl.media.video_signatures import transport_packets

_MOST_CHUNKS = 1 << 20
"""Maximum number of chunks that are walked; a film has some thousands, its blocks 300,000."""


_MOST_INDEX = 1 << 20
"""Maximum size of a segment index in bytes, for 87,000 fragments."""


_MOST_PADDING = 31
"""Maximum number of zero bytes at the end of a file that are no chunk."""


class _CutOffError(Exception):
    """The file ends within a chunk."""

    def __init__(self, words: str = "the file is cut off") -> None:
        super().__init__(words)


class _Chunks:
    """Reads the headers of a file's chunks.

    Args:
        file: The file.
        size: Its size in bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size = file, size

    def at(self, offset: int, count: int) -> bytes:
        """Bytes of a header.

        Raises:
            _CutOffError: The file ends before.
        """
        if offset + count > self.size:
            raise _CutOffError
        self.file.seek(offset)
        return self.file.read(count)

    def walk(self, start: int, end_of: Callable[[int], int | None]) -> bool:
        """Go from chunk to chunk.

        Args:
            start: Offset of the first chunk.
            end_of: Returns the end of the chunk at an offset; None: nothing else is to be checked.

        Returns:
            Whether all chunks were walked; False: there are too many.

        Raises:
            _CutOffError: The file ends within a chunk.
        """
        offset: int | None = start
        for _ in range(_MOST_CHUNKS):
            if offset is None or self._is_end(offset):
                return True
            if offset > self.size:
                raise _CutOffError
            offset = end_of(offset)
        return False

    def _is_end(self, offset: int) -> bool:
        """Whether nothing is left but padding."""
        left = self.size - offset
        return 0 <= left <= _MOST_PADDING and not any(self.at(offset, left))


def cut_off(path: Path) -> str | None:
    """Why frames at the end of a video may be missing, as far as its chunks tell.

    Args:
        path: A video of an admitted container (see `check_container`).

    Returns:
        The damage; None: none was found.
    """
    with path.open("rb") as file:
        chunks = _Chunks(file, path.stat().st_size)
        head = file.read(4096)
        check = next((check for is_kind, check in _KINDS if is_kind(head)), None)
        try:
            if check is not None:
                check(chunks)
        except _CutOffError as error:
            return str(error)
        except (
            KeyError,
            IndexError,
            OverflowError,
            ValueError,
            struct.error,
        ):  # no such structure; the decoder may know better
            pass
    return None


def _check_mp4(chunks: _Chunks) -> None:
    """ISO 14496-12, 4.2 and 8.16.3: boxes, and the sizes of fragments in a segment index."""
    ends = [0]
    last = b""

    def end_of(offset: int) -> int | None:
        nonlocal last
        if chunks.size - offset < 8:
            return None  # a few bytes at the end, as some programs leave them
        size, kind = struct.unpack(">I4s", chunks.at(offset, 8))
        header = 16 if size == 1 else 8
        if size == 1:
            (size,) = struct.unpack(">Q", chunks.at(offset + 8, 8))
        last = kind
        if size < header or not kind.isalnum():
            return None  # 0: up to the end of the file
        if kind == b"sidx":
            index = chunks.at(offset, min(size, chunks.size - offset, _MOST_INDEX))
            ends.append(offset + size + _end_of_index(index, header))
        end: int = offset + size
        return end if end <= chunks.size or kind in {b"mdat", b"moof", b"moov"} else None

    is_all = chunks.walk(0, end_of)
    if (is_all and last == b"moof") or max(ends) > chunks.size:
        raise _CutOffError


def _end_of_index(box: bytes, header: int) -> int:
    """The end of the media that a `sidx` box lists, in bytes from the end of the box."""
    wide = 8 if box[header] else 4
    place = header + 12 + wide  # version and flags, reference id, timescale, time
    first = int.from_bytes(box[place : place + wide], "big")
    place += wide
    (count,) = struct.unpack_from(">2xH", box, place)
    sizes = (int.from_bytes(box[one : one + 4], "big") & 0x7FFF_FFFF
             for one in range(place + 4, place + 4 + 12 * count, 12))  # fmt: skip
    return first + sum(sizes)


_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_BLOCKS = {0xA3, 0xA0, 0xE7, 0xA7, 0xAB, 0xEC, 0xBF}
"""SimpleBlock, BlockGroup, Timestamp, Position, PrevSize, Void, CRC-32."""


def _check_matroska(chunks: _Chunks) -> None:
    """RFC 8794, 4-6, and RFC 9559: elements. Index and tags after the frames may be missing."""
    has_frames = False

    def end_of(offset: int) -> int | None:
        nonlocal has_frames
        try:
            kind, place = _vint(chunks, offset, keep_mark=True)
            size, place = _vint(chunks, place, keep_mark=False)
        except _CutOffError:
            return None
        is_open = size < 0  # of unknown size, as written to a pipe
        if kind == _SEGMENT or (kind == _CLUSTER and is_open):
            return place
        if is_open:
            return None
        is_media = kind == _CLUSTER or kind in _BLOCKS
        has_frames = has_frames or is_media
        end = place + size
        return end if end <= chunks.size or is_media or not has_frames else None

    chunks.walk(0, end_of)


def _vint(chunks: _Chunks, offset: int, *, keep_mark: bool) -> tuple[int, int]:
    """A variable-size integer of EBML (-1: all its bits are set), and the offset after it."""
    first = chunks.at(offset, 1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        raise ValueError("no EBML")
    value = int.from_bytes(chunks.at(offset, length), "big")
    if keep_mark:
        return value, offset + length
    value &= (1 << 7 * length) - 1
    return (-1 if value == (1 << 7 * length) - 1 else value), offset + length


def _check_avi(chunks: _Chunks) -> None:
    """RIFF files of AVI and OpenDML: the list `movi` has the frames, an index may follow."""

    def end_of(offset: int) -> int | None:
        kind, size = struct.unpack("<4sI", chunks.at(offset, 8))
        if kind not in {b"RIFF", b"LIST", b"JUNK", b"idx1"} or size in {0, 0xFFFF_FFFF}:
            return None  # what follows is no part of it; or the size was never filled in
        name = chunks.at(offset + 8, 4)
        if kind == b"RIFF":
            return offset + 12 if name in {b"AVI ", b"AVIX"} else None
        end: int = offset + 8 + size + size % 2
        if kind == b"idx1":
            return end if end <= chunks.size else None
        return end if end != chunks.size + 1 else chunks.size  # a last pad byte may be left out

    chunks.walk(0, end_of)


def _check_transport_stream(chunks: _Chunks) -> None:
    """ISO 13818-1: packets of one length."""
    found = transport_packets(chunks.at(0, min(chunks.size, 4096)))
    if found is None:
        return
    sync, length = found
    start = sync % length - (4 if length == 192 else 0)  # M2TS has a time before each packet
    rest = (chunks.size - start) % length
    if rest and chunks.at(max(0, chunks.size - rest - length) + sync - start, 1) == b"\x47":
        raise _CutOffError("the file ends within a packet")


def _check_flv(chunks: _Chunks) -> None:
    """Adobe's specification of FLV, annex E: tags, each followed by its length."""

    def end_of(offset: int) -> int | None:
        head = chunks.at(offset, 11)
        if head[0] & 31 not in {8, 9, 18}:
            return None
        end = offset + 15 + int.from_bytes(head[1:4], "big")
        return end if end != chunks.size + 4 else chunks.size  # the last length may be left out

    chunks.walk(int.from_bytes(chunks.at(5, 4), "big") + 4, end_of)


_ASF_DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")


def _check_asf(chunks: _Chunks) -> None:
    """Microsoft's specification of ASF: the data object; an index may follow."""

    def end_of(offset: int) -> int | None:
        kind, size = struct.unpack("<16sQ", chunks.at(offset, 24))
        if kind == _ASF_DATA:
            if offset + size > chunks.size:
                raise _CutOffError
            return None
        return offset + size if size >= 24 else None

    chunks.walk(0, end_of)


def _check_ogg(chunks: _Chunks) -> None:
    """RFC 3533: pages, the last one of each stream with a mark."""
    has_end = False

    def end_of(offset: int) -> int | None:
        nonlocal has_end
        head = chunks.at(offset, 27)
        if head[:4] != b"OggS":
            has_end = True  # other data
            return None
        has_end = has_end or bool(head[5] & 4)
        return offset + 27 + head[26] + sum(chunks.at(offset + 27, head[26]))

    if chunks.walk(0, end_of) and not has_end:
        raise _CutOffError("the file has no end mark: it is cut off, or its recording was stopped")


def _check_gif(chunks: _Chunks) -> None:
    """GIF89a: blocks up to the trailer, which some programs leave out."""
    left = _MOST_CHUNKS

    def after_blocks(offset: int) -> int | None:
        nonlocal left
        while length := chunks.at(offset, 1)[0]:
            left -= 1
            if left < 0:
                return None
            offset += 1 + length
        return offset + 1

    def colours(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    def end_of(offset: int) -> int | None:
        kind = chunks.at(offset, 1)
        if kind == b"!":
            return after_blocks(offset + 2)
        if kind == b",":
            return after_blocks(offset + 11 + colours(chunks.at(offset + 9, 1)[0]))
        return None  # the trailer, or no GIF

    chunks.walk(13 + colours(chunks.at(10, 1)[0]), end_of)


def _check_mxf(chunks: _Chunks) -> None:
    """SMPTE 377-1: triplets of a key of 16 bytes, a length as in BER, and a value."""

    def end_of(offset: int) -> int | None:
        head = chunks.at(offset, 17)
        if head[:4] != b"\x06\x0e\x2b\x34":
            return None
        count = head[16] & 0x7F if head[16] & 0x80 else 0
        size = int.from_bytes(chunks.at(offset + 17, count), "big") if count else head[16]
        return offset + 17 + count + size

    chunks.walk(0, end_of)


def _check_program_stream(chunks: _Chunks) -> None:
    """ISO 13818-1, 2.5, and ISO 11172-1: packs of packets with lengths."""

    def end_of(offset: int) -> int | None:
        mark, kind = struct.unpack(">3sB", chunks.at(offset, 4))
        if mark != b"\0\0\1" or kind < 0xBA:
            return None  # the end code, or a stream without packets
        if kind > 0xBA:
            return offset + 6 + int.from_bytes(chunks.at(offset + 4, 2), "big")
        is_mpeg2 = chunks.at(offset + 4, 1)[0] >> 6 == 1
        return offset + (14 + (chunks.at(offset + 13, 1)[0] & 7) if is_mpeg2 else 12)

    chunks.walk(0, end_of)


def _check_ivf(chunks: _Chunks) -> None:
    """IVF: frames behind their lengths."""
    start = int.from_bytes(chunks.at(6, 2), "little")
    chunks.walk(start, lambda at: at + 12 + int.from_bytes(chunks.at(at, 12)[:4], "little"))


_NUT_INDEX = bytes.fromhex("4e58dd672f23e64e")


def _check_nut(chunks: _Chunks) -> None:
    """NUT's specification, section 3: an index at the end, with its length before its checksum."""
    length = int.from_bytes(chunks.at(chunks.size - 12, 8), "big")
    if not 20 <= length <= chunks.size or chunks.at(chunks.size - length, 8) != _NUT_INDEX:
        raise _CutOffError(
            "the file has no index at its end: it is cut off, or its recording was stopped"
        )


_Y4M_COLOURS = re.compile(rb"(mono|420|422|444|411)(alpha|jpeg|paldv|mpeg2)?(?:p?(\d{1,2}))?")
_Y4M_SHARES = {b"mono": None, b"420": (2, 2), b"422": (2, 1), b"411": (4, 1), b"444": (1, 1)}
"""Columns and rows of pixels for each sample of colour."""

_Y4M_FRAME = b"FRAME"


def _check_y4m(chunks: _Chunks) -> None:
    """YUV4MPEG2 (mjpegtools, yuv4mpeg(5)): frames of one length, each behind a line."""
    head = chunks.at(0, min(chunks.size, 4096))
    start = head.index(b"\n") + 1
    fields = {one[:1]: one[1:] for one in reversed(head[: start - 1].split(b" ")[1:])}
    width, height = int(fields[b"W"]), int(fields[b"H"])
    colours = _Y4M_COLOURS.fullmatch(fields.get(b"C", b"420"))
    if colours is None or width < 1 or height < 1:
        return
    share = _Y4M_SHARES[colours[1]]
    samples = width * height * (2 if colours[2] == b"alpha" else 1)
    if share is not None:
        samples += 2 * -(-width // share[0]) * -(-height // share[1])
    length = samples * (2 if int(colours[3] or 8) > 8 else 1)

    def end_of(offset: int) -> int | None:
        line = chunks.at(offset, min(256, chunks.size - offset))
        if not line.startswith(_Y4M_FRAME[: len(line)]):
            return None
        end = line.find(b"\n")
        if end < 0:
            raise _CutOffError
        return offset + end + 1 + length

    chunks.walk(start, end_of)


_KINDS: tuple[tuple[Callable[[bytes], bool], Callable[[_Chunks], None]], ...] = (
    (lambda head: head.startswith(b"\x1a\x45\xdf\xa3"), _check_matroska),
    (lambda head: head[:4] == b"RIFF", _check_avi),
    (lambda head: head.startswith(b"FLV"), _check_flv),
    (lambda head: head.startswith(b"OggS"), _check_ogg),
    (lambda head: head.startswith(b"GIF8"), _check_gif),
    (lambda head: head.startswith(b"\x30\x26\xb2\x75"), _check_asf),
    (lambda head: head.startswith(b"DKIF"), _check_ivf),
    (lambda head: head.startswith(b"nut/multimedia container\0"), _check_nut),
    (lambda head: head.startswith(b"YUV4MPEG2 "), _check_y4m),
    (lambda head: head.startswith(b"\x06\x0e\x2b\x34"), _check_mxf),
    (lambda head: head.startswith(b"\0\0\1\xba"), _check_program_stream),
    (lambda head: transport_packets(head) is not None, _check_transport_stream),
    (lambda head: head[4:8].isalnum(), _check_mp4),
)
"""Signatures, and the checks of their containers."""
