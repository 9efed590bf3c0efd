"""Libraries that read frames from video files, behind one small protocol.

They are C libraries that meet files from anywhere; `video_worker` runs them where they can be
killed. Nothing here knows of policies or of what the frames are for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


class VideoReader(Protocol):
    """An open video.

    Attributes:
        frame_count: Number of its frames.
        fps: Frames per second, on average.
    """

    frame_count: int
    fps: float

    def read(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames.

        Args:
            indices: Which, each once, in ascending order.

        Returns:
            Arrays of shape [height, width, 3], RGB.
        """


class DecordReader:
    """A video read by decord.

    decord numbers keyframes in the order of decoding. Where frames that are shown before a
    keyframe are decoded after it (an open group of pictures, usual in HEVC), it is several frames
    off after every seek; decoding on from the start is always right.

    Args:
        path: The file.
        seeks: Whether it may seek: only if no group of pictures is open.
    """

    def __init__(self, path: str, *, seeks: bool = False) -> None:
        import decord  # noqa: PLC0415 - one of two libraries of an extra

        # One thread: more keep frames of their own, and a few frames are soon decoded.
        self._video = decord.VideoReader(path, ctx=decord.cpu(0), num_threads=1)
        self._seeks = seeks
        self.frame_count = len(self._video)
        self.fps = float(self._video.get_avg_fps())

    def read(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames; where it may, decord itself seeks if a keyframe lies in between."""
        position = 0
        for index in indices:
            if not self._seeks:
                for _ in range(index - position):  # its skip_frames() seeks too
                    self._video.next()
            frame = self._video[index] if self._seeks else self._video.next()
            position = index + 1
            yield frame.asnumpy()[..., :3]


class PyAVReader:
    """A video read by PyAV.

    Args:
        path: The file.

    Attributes:
        is_closed: Whether no group of pictures is open.

    Raises:
        ValueError: It has no video.
    """

    def __init__(self, path: str) -> None:
        import av  # noqa: PLC0415 - one of two libraries of an extra

        self._container: Any = av.open(path)
        if not self._container.streams.video:
            raise ValueError("the file has no video stream")
        self._stream: Any = self._container.streams.video[0]
        # The packets tell the frames' times, and which can be decoded without the others.
        packets = [
            (time, packet.is_keyframe)
            for packet in self._container.demux(self._stream)
            if packet.size and (time := _time(packet)) is not None
        ]
        self.is_closed = _is_closed(packets)
        frames = sorted(packets)
        self._times = [time for time, _ in frames]
        self._keys = [index for index, (_, is_key) in enumerate(frames) if is_key] or [0]
        self.frame_count = len(frames)
        self.fps = float(self._stream.average_rate or 0)

    def read(self, indices: Sequence[int]) -> Iterator[NDArray[np.uint8]]:
        """Decode frames; seeks if a keyframe lies in between, else decodes on.

        Raises:
            ValueError: The file ends before a frame.
        """
        decoded: Iterator[Any] = iter(())
        position: int | None = None  # index of the next frame that is decoded
        for wanted in indices:
            key = self._keys[max(0, bisect_right(self._keys, wanted) - 1)]
            if position is None or key > position:
                self._container.seek(self._times[key], stream=self._stream)
                decoded, position = self._container.decode(self._stream), key
            for frame in decoded:
                time = _time(frame)
                index = position if time is None else bisect_left(self._times, time)
                position = index + 1
                if index >= wanted:
                    # Phones store how they were held; decord turns frames upright itself.
                    turns = round(frame.rotation / 90) % 4
                    yield np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                    break
            else:
                raise ValueError(f"the file ends before frame {wanted}")


def _time(part: Any) -> int | None:
    """When a packet or frame is shown; some containers tell only when it is decoded."""
    time: int | None = part.dts if part.pts is None else part.pts
    return time


def _is_closed(packets: Sequence[tuple[int, bool]]) -> bool:
    """Whether nothing that is decoded after a keyframe is shown before it.

    Args:
        packets: Time of showing, and whether it is a keyframe, in the order of decoding.
    """
    earliest: float = float("inf")
    for time, is_key in reversed(packets):
        if is_key and earliest < time:
            return False
        earliest = min(earliest, time)
    return True


def open_reader(path: str) -> VideoReader:
    """Open a video with decord, if it is installed and right about this one, else with PyAV.

    Raises:
        ImportError: Neither is installed.
    """
    has_decord, has_av = (find_spec(name) is not None for name in ("decord", "av"))
    if not has_av:
        return DecordReader(path)
    pyav = PyAVReader(path)
    return DecordReader(path, seeks=True) if has_decord and pyav.is_closed else pyav


def can_read() -> bool:
    """Whether a library for videos is installed; it is not imported."""
    return any(find_spec(name) is not None for name in ("decord", "av"))
