"""What the packets and the header of a video say about its frames."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any


def is_mirrored(frame: Any) -> bool:
    """Whether a video is shown mirrored, as selfies are: flipped vertically, then rotated.

    (ISO 14496-12, 8.3.2, the matrix of `tkhd`; FFmpeg's libavutil/display.h.)
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return False
    a, b, _, c, d = struct.unpack_from("=5i", bytes(matrix))
    return bool(a * d < b * c)


def decodable(packets: Sequence[Any]) -> list[Any]:
    """The packets that give frames: from the first keyframe on, in decoding and presentation.

    A recording of a running stream begins anywhere; decoders show nothing before its first
    keyframe, nor what is decoded after it and presented before it. What follows the next keyframe
    may have earlier times: those of a recording that goes on from another one begin anew.
    """
    keys = [index for index, one in enumerate(packets) if one.is_keyframe] or [0]
    first, second = (*keys, len(packets))[:2]
    start = packets[first].pts if packets else None
    leading = packets[first:second]
    return [
        *(one for one in leading if start is None or one.pts is None or one.pts >= start),
        *packets[second:],
    ]


_TIMES_JUMP = 0x200
"""AVFMT_TS_DISCONT of FFmpeg's avformat.h: streams of broadcasts and discs, Ogg."""
_MOST_SILENCE, _MOST_BACK = 10.0, 0.1
"""Seconds forwards and backwards that are a jump (`dts_delta_threshold` of FFmpeg's program, and
its `ts_discontinuity_detect`)."""
_USUAL = 10
"""Silence that is no jump, as a multiple of the usual time between packets."""


def presentation_times(packets: Sequence[Any], format_flags: int) -> list[float]:
    """Seconds at which packets are presented, in decoding order.

    A recording that was interrupted, or goes on from another one, jumps to other times in formats
    whose times may do so. As in players, what follows a jump follows at once.

    Args:
        packets: Packets of one stream, all with a presentation time.
        format_flags: FFmpeg's flags of the format.

    Returns:
        A time for each packet; empty: unknown.
    """
    base = float(packets[0].time_base) if packets else 0.0
    times = [packet.pts * base for packet in packets]
    if not format_flags & _TIMES_JUMP:
        return times
    decoded: list[float] = []
    for packet, time in zip(packets, times, strict=True):
        known = (decoded or [time])[-1] if packet.dts is None else packet.dts * base
        decoded.append(known)
    shifts = _shifts(decoded, [(packet.duration or 0) * base for packet in packets])
    is_odd = any(abs(time - at) > _MOST_SILENCE for time, at in zip(times, decoded, strict=True))
    if any(shifts) and is_odd:
        return []  # FFmpeg gave a packet the time of one behind the jump
    return [time + shift for time, shift in zip(times, shifts, strict=True)]


def _shifts(decoded: Sequence[float], durations: Sequence[float]) -> list[float]:
    """Seconds to be added to the times of packets, so that none of them jumps.

    Declared durations may be wrong, so that only times tell that a stream goes back.
    """
    steps = [later - earlier for earlier, later in pairwise(decoded)]
    silence = max(_MOST_SILENCE, _USUAL * median(steps)) if steps else _MOST_SILENCE
    shifts, shift = [0.0] * bool(decoded), 0.0
    for step, duration in zip(steps, durations, strict=False):
        if not -_MOST_BACK <= step <= duration + silence:
            shift += duration - step
        shifts.append(shift)
    return shifts


def declares_duration(path: Path) -> bool:
    """Whether a Matroska file has the element `Duration` (RFC 9559, 5.1.2.11), of 4 or 8 bytes."""
    with path.open("rb") as file:
        return re.search(rb"\x44\x89[\x84\x88]", file.read(1 << 16)) is not None


def end_of(packets: Iterable[Any]) -> float:
    """End of the last packet, in seconds."""
    return max(
        (
            float((packet.pts + (packet.duration or 0)) * packet.time_base)
            for packet in packets
            if packet.pts is not None
        ),
        default=0.0,
    )


_ATTACHED_PICTURE = 1 << 10
"""AV_DISPOSITION_ATTACHED_PIC of FFmpeg's avformat.h."""


def is_cover(stream: Any) -> bool:
    """Whether a stream is the cover of an album, which audio files carry as a video stream."""
    flags = stream.disposition
    return bool(int(getattr(flags, "value", flags)) & _ATTACHED_PICTURE)


def is_closed(packets: Sequence[tuple[int, bool]]) -> bool:
    """Whether no frame that is decoded after a keyframe is presented before it.

    Args:
        packets: Presentation time, and whether it is a keyframe, in decoding order.
    """
    earliest: float = float("inf")
    for time, is_key in reversed(packets):
        if is_key and earliest < time:
            return False
        earliest = min(earliest, time)
    return True


def from_zero(starts: Sequence[float], end: float) -> tuple[Sequence[float], float | None]:
    """Times and duration relative to the first frame; empty if two frames have the same time."""
    if not starts or any(later <= earlier for earlier, later in pairwise(starts)):
        return (), None
    first = starts[0]
    return [start - first for start in starts], max(end, starts[-1]) - first
