"""Libraries that read frames from video files, behind one protocol.

They are C libraries that open untrusted files; `video_worker` runs them in a process that can be
killed. This module is independent of policies and prompts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from langchain_internvl._optional import is_installed
from langchain_internvl.media.containers import FORMATS
from langchain_internvl.media.cut_fragments import open_whole_fragments
from langchain_internvl.media.video_packets import (
    declares_duration,
    decodable,
    end_of,
    from_zero,
    is_closed,
    is_cover,
    is_mirrored,
    presentation_times,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class VideoReader(Protocol):
    """An open video.

    Attributes:
        frame_count: Number of its frames.
        fps: Frames per second, on average.
        times: Time of each frame in seconds, ascending from 0; empty: unknown.
        duration: Length in seconds; None: unknown.
        missing: Seconds at the end that the header declares and the file does not have; 0: none,
            or unknown.
        is_broken: Whether the file has a packet that cannot be read, so that the rest is missing.
        lost: Number of packets that could not be decoded, of those read so far.
        decoded: Indices of the frames that were read so far.
    """

    frame_count: int
    fps: float
    times: Sequence[float]
    duration: float | None
    missing: float
    is_broken: bool
    lost: int
    decoded: list[int]

    def read(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames.

        Args:
            indices: Indices of the frames, distinct and ascending.

        Returns:
            Arrays of shape [height, width, 3], RGB, one for each index. For a frame that cannot be
            decoded, the next one that can, or the last one of the file; `decoded` has its index.
        """


class DecordReader:
    """A video read by decord.

    decord numbers keyframes in decoding order. In an open group of pictures (common in HEVC),
    frames that are presented before a keyframe are decoded after it, and decord is several frames
    off after every seek. The same happens in containers without presentation times of all frames.
    Those videos are decoded from the start without seeking.

    Args:
        path: The file.
        seeks: Whether seeking is allowed; see `PyAVReader.can_seek`.

    Raises:
        Exception: decord cannot read the file; any type.
    """

    is_broken: bool
    lost: int
    decoded: list[int]

    def __init__(self, path: str, *, seeks: bool = False) -> None:
        import decord  # noqa: PLC0415 - one of two libraries of an extra

        # One thread: each further one buffers frames, and few frames are decoded.
        self._video = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        self._seeks = seeks
        self.frame_count = len(self._video)
        self.fps = float(self._video.get_avg_fps())
        self.times, self.duration = self._read_times()
        self.missing, self.is_broken = 0.0, False  # decord does not tell
        self.lost, self.decoded = 0, []

    def _read_times(self) -> tuple[Sequence[float], float | None]:
        spans = self._video.get_frame_timestamp(range(self.frame_count))  # [frames, start and end]
        starts = sorted(float(start) for start, _ in spans)
        return from_zero(starts, max((float(end) for _, end in spans), default=0.0))

    def read(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames; if seeking is allowed, decord seeks to keyframes in between."""
        position = 0
        for index in indices:
            if not self._seeks:
                for _ in range(index - position):  # its skip_frames() seeks too
                    self._video.next()
            frame = self._video[index] if self._seeks else self._video.next()
            position = index + 1
            self.decoded.append(index)
            yield frame.asnumpy()[..., :3]


# FFmpeg opens this file, as one of these formats, and no other file.
_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(FORMATS)}

# Containers whose header declares the duration; of others FFmpeg estimates it.
_DECLARED = {"mov", "mp4", "matroska", "webm", "flv", "asf"}
_LEAST_MISSING = 1.0
"""Seconds that streams may be shorter than declared: writers round, and streams differ."""

# Containers whose index locates keyframes exactly.
_INDEXED = {"mov", "matroska", "mp4", "webm"}

# Pixel formats that both libraries convert to the same RGB; of 10 bits they do not.
_SAME_PIXELS = {"yuv420p", "yuvj420p", "yuv422p", "yuv444p"}


_NO_VIDEO = (
    "the file has no video stream, only audio or subtitles; InternVL takes no audio, transcribe it"
)


_NOTHING = "none of its frames can be decoded"


class PyAVReader:
    """A video read by PyAV.

    Args:
        path: The file.

    Attributes:
        is_plain: Whether all libraries agree on the frames: the container has an exact index and
            presentation times of all frames, and hides none (as edit lists do).
        can_seek: Whether, in addition, all groups of pictures are closed: no frame that is decoded
            after a keyframe is presented before it.
        equals_decord: Whether PyAV converts the pixels to RGB as decord does, to the bit.

    Raises:
        Exception: PyAV cannot read the file; any type.
        ValueError: The file has no video stream.
    """

    lost: int
    decoded: list[int]

    def __init__(self, path: str) -> None:
        import av  # noqa: PLC0415 - one of two libraries of an extra

        self._path = path
        self.is_broken = False
        self._open(av)
        if self._stream is None or self._stream.codec_context is None:
            raise ValueError(_NO_VIDEO)
        # The packets have the frames' presentation times, and mark keyframes.
        packets = [packet for packet in self._packets(self._stream) if packet.size]
        shown = [packet for packet in decodable(packets) if not packet.is_discard]
        self.is_plain = (
            bool(_INDEXED & set(self._container.format.name.split(",")))
            and not any(packet.is_discard for packet in packets)
            and all(packet.pts is not None for packet in packets)
        )
        times = [(packet.pts, packet.is_keyframe) for packet in shown] if self.is_plain else []
        self.can_seek = self.is_plain and is_closed(times)
        self.equals_decord = self._stream.codec_context.pix_fmt in _SAME_PIXELS
        times.sort()
        self._times = [time for time, _ in times]
        self._keys = [index for index, (_, is_key) in enumerate(times) if is_key] or [0]
        self.frame_count = len(shown)
        self.fps = float(self._stream.average_rate or 0)
        self.times, self.duration = self._read_times(shown)
        self.missing = self._missing_seconds(packets)
        self.lost, self.decoded = 0, []

    def _read_times(self, shown: Sequence[Any]) -> tuple[Sequence[float], float | None]:
        """Times and duration, from the packets of presented frames."""
        if not shown or any(packet.pts is None for packet in shown):
            return (), None
        starts = presentation_times(shown, self._container.format.flags)
        if not starts:
            return (), None
        last = max(range(len(shown)), key=starts.__getitem__)
        base = float(self._stream.time_base)
        length = (shown[last].duration or 0) * base or 1 / (self.fps or 25)
        return from_zero(sorted(starts), starts[last] + length)

    def _missing_seconds(self, packets: Sequence[Any]) -> float:
        """Seconds from the end of the last packet to the end that the header declares."""
        declared = (self._container.duration or 0) / 1_000_000
        kinds = set(self._container.format.name.split(","))
        if not declared or not _DECLARED & kinds or all(one.pts is None for one in packets):
            return 0.0
        if "matroska" in kinds and not declares_duration(Path(self._path)):
            return 0.0  # FFmpeg estimates it from the bit rate
        slack = max(_LEAST_MISSING, 0.02 * declared)
        if declared - end_of(packets) <= slack:
            return 0.0
        self._container.seek(0)
        missing = declared - end_of(self._packets())  # sound may be longer
        return missing if missing > slack else 0.0

    def read(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames; seeks to keyframes in between if `can_seek`.

        Raises:
            ValueError: No frame can be decoded.
        """
        import numpy as np  # noqa: PLC0415 - imported at first use

        for index, frame in self._seek(indices) if self.is_plain else self._count(indices):
            self.decoded.append(index)
            # Phones store their orientation; decord rotates frames itself, PyAV does not.
            turns = round(frame.rotation / 90) % 4
            pixels = frame.to_ndarray(format="rgb24")
            if is_mirrored(frame):
                pixels = pixels[::-1]
            yield np.ascontiguousarray(np.rot90(pixels, turns))

    def _open(self, av: Any) -> None:
        source = open_whole_fragments(Path(self._path)) or self._path
        self._container: Any = av.open(source, options=_OPTIONS)
        streams = [one for one in self._container.streams.video if not is_cover(one)]
        best = self._container.streams.best("video")
        self._stream: Any = best if best in streams else next(iter(streams), None)

    def _packets(self, *streams: Any) -> Iterator[Any]:
        """Packets from the present place on, up to the first that cannot be read.

        The last one is empty: with it the decoder gives the frames that it holds.

        Args:
            streams: Their streams; none: all streams.

        Raises:
            av.FFmpegError: The first packet cannot be read.
        """
        import av  # noqa: PLC0415 - one of two libraries of an extra

        packet = None
        try:
            for packet in self._container.demux(*streams):
                yield packet
        except (av.error.InvalidDataError, av.error.EOFError):
            if packet is None:
                raise
            self.is_broken = True
            yield av.Packet()

    def _frames(self) -> Iterator[Any]:
        """Frames from the present place on; packets that cannot be decoded are counted in `lost`.

        The last packet of a file that is cut off is a part of one. When the decoder refuses it
        depends on the frames that it holds back, so it may be before frames that are complete.
        """
        import av  # noqa: PLC0415 - one of two libraries of an extra

        is_started = False
        for packet in self._packets(self._stream):
            is_started = is_started or packet.is_keyframe  # see `decodable`
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.error.MemoryError:
                raise
            except av.FFmpegError:
                self.lost += is_started
                continue
            yield from frames

    def _seek(self, indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Frames and their indices, identified by presentation time."""
        decoded: Iterator[tuple[int, Any]] = iter(())
        position: int | None = None  # index of the last frame that was decoded
        last: tuple[int, Any] | None = None
        for wanted in indices:
            key = self._keys[max(0, bisect_right(self._keys, wanted) - 1)]
            if position is None or key > position + 1:
                decoded, position, last = self._from_key(key), key - 1, None
            while position < wanted and (found := next(decoded, None)) is not None:
                last, position = found, found[0]
            if position < wanted:  # the rest of the file cannot be decoded
                last, position = last or self._last_before(key), wanted
            if last is None:
                raise ValueError(_NOTHING)
            yield last

    def _from_key(self, key: int) -> Iterator[tuple[int, Any]]:
        """Frames from a keyframe on, and their indices."""
        self._container.seek(self._times[key], stream=self._stream)
        position = key
        for frame in self._frames():
            if frame.pts is not None and frame.pts < self._times[0]:
                continue  # see `decodable`
            index = position if frame.pts is None else bisect_left(self._times, frame.pts)
            position = index + 1
            yield min(index, self.frame_count - 1), frame

    def _last_before(self, key: int) -> tuple[int, Any] | None:
        """The last frame that can be decoded before a keyframe."""
        for earlier in reversed(self._keys[: bisect_left(self._keys, key)]):
            last = None
            for found in self._from_key(earlier):
                last = found
            if last is not None:
                return last
        return None

    def _count(self, indices: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Frames and their indices, counted from the start."""
        import av  # noqa: PLC0415 - one of two libraries of an extra

        self._container.close()
        self._open(av)  # not every container can be rewound
        decoded, last = enumerate(self._frames()), None
        for wanted in indices:
            while (last is None or last[0] < wanted) and (found := next(decoded, None)) is not None:
                last = found
            if last is None:
                raise ValueError(_NOTHING)
            yield last


def open_reader(path: str, *, is_damaged: bool = False) -> VideoReader:
    """Open a video with PyAV, or with decord where that is exact and the pixels of PyAV differ.

    decord is the reference's reader. Where both give the same frames to the bit, PyAV gives them in
    half the time: decord converts all frames that it decodes on the way, and its FFmpeg is of 2021.

    Args:
        path: The file.
        is_damaged: Whether the file is known to be damaged; then it is PyAV, if it is installed,
            which reads on after packets that cannot be decoded.

    Raises:
        Exception: No installed library can read the file; any type.
        ImportError: Neither library is installed.
    """
    has_decord, has_av = (is_installed(name) for name in ("decord", "av"))
    if not has_av:
        return DecordReader(path)
    pyav = PyAVReader(path)
    if pyav.equals_decord or is_damaged or pyav.missing or not (has_decord and pyav.can_seek):
        return pyav
    try:
        decord = DecordReader(path, seeks=True)
    except Exception:  # noqa: BLE001 - its FFmpeg of 2021 lacks formats such as AV1
        return pyav
    agree = decord.frame_count == pyav.frame_count and abs(decord.fps - pyav.fps) < 1e-3
    if not agree:
        return pyav
    decord.times, decord.duration, decord.missing = pyav.times, pyav.duration, pyav.missing
    return decord


def can_read() -> bool:
    """Whether a library for videos is installed; it is not imported."""
    return any(is_installed(name) for name in ("decord", "av"))
