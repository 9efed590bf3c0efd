"""Which frames of a video are shown.

Formula: `get_index` of the InternVL2 quick start. The clip, or a part of it, is cut into as many
equal segments as frames are wanted, and each gives the frame in its middle. The formula takes the
frame rate for constant. Where it is not, seconds are those of the frames' own times.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from langchain_internvl.errors import RequestError


def frame_indices(
    num_frames_in_clip: int,
    fps: float,
    num_frames: int = 8,
    bound: tuple[float, float] | None = None,
    times: Sequence[float] = (),
) -> list[int]:
    """The frames of a video that are shown in a message.

    Args:
        num_frames_in_clip: Number of frames of the video.
        fps: Frames per second.
        num_frames: How many frames are wanted. A clip with fewer shows some of them twice, as in
            the reference.
        bound: Start and end in seconds; None: the whole video. What lies outside the video is cut
            off. (A bound that ends before the first frame, starts after the last or is reversed
            gives frames that do not exist in the reference; here it is refused.)
        times: Time of each frame in seconds, ascending from 0; none: they are not known. Where
            they show that the rate is not constant, start and end of the bound are the frames
            nearest to them.

    Returns:
        `num_frames` indices from 0, in order.

    Raises:
        RequestError: There are no frames, or none within the bound.
    """
    if num_frames_in_clip < 1:
        raise RequestError("the video has no frames")
    if num_frames < 1:
        raise RequestError(f"num_frames must be at least 1, not {num_frames}")
    last = num_frames_in_clip - 1
    first, end = 0, last
    if bound is not None:
        start, stop = bound
        if not start <= stop:
            raise RequestError(f"bound is (start, end) in seconds with start <= end, not {bound}")
        if not fps > 0 and not times:
            raise RequestError("the video does not tell its frame rate, so it has no seconds")
        if times and not is_constant(times, fps):
            return _in_segments(*_nearest_frames(times, start, stop), num_frames)
        if stop * fps < -0.5:  # it would be rounded to a frame before the first
            raise RequestError(f"the bound ends at {stop} s, before the video begins")
        # Clamped before they are rounded: infinity is a fair end.
        first, end = (round(min(max(0.0, time * fps), last + 1.0)) for time in (start, stop))
        if first > last:
            raise RequestError(
                f"the bound starts at {start} s, after the end of the video ({last / fps:.2f} s)"
            )
        end = min(end, last)
    return _in_segments(first, end, num_frames)


def frame_indices_by_time(
    times: Sequence[float],
    duration: float,
    num_frames: int = 8,
    bound: tuple[float, float] | None = None,
) -> list[int]:
    """Frames that are spread evenly over the seconds of a video, whatever its frame rate.

    The part is cut into as many equal spans of time as frames are wanted, and each gives the frame
    nearest to its middle, out of those within the part. A part between two frames gives the frame
    that is visible then.

    Args:
        times: Time of each frame in seconds, ascending from 0.
        duration: Length of the video in seconds.
        num_frames: How many frames are wanted; some may be the same.
        bound: Start and end in seconds; None: the whole video.

    Returns:
        `num_frames` indices from 0, in order.

    Raises:
        RequestError: There are no frames within the bound.
    """
    start, stop = (0.0, duration) if bound is None else bound
    if not start <= stop or stop < 0:
        raise RequestError(f"bound is (start, end) in seconds with start <= end, not {bound}")
    if start >= max(duration, times[-1] + 1e-9):
        raise RequestError(
            f"the bound starts at {start} s, after the end of the video ({duration:.2f} s)"
        )
    start, stop = max(0.0, start), min(stop, duration)
    first, end = bisect_left(times, start - 1e-6), bisect_right(times, stop + 1e-6)
    if first >= end:
        first = max(0, end - 1)
        end = first + 1
    inside = times[first:end]
    span = (stop - start) / num_frames
    middles = (start + span * (number + 0.5) for number in range(num_frames))
    return [first + _nearest(inside, middle) for middle in middles]


def is_constant(times: Sequence[float], fps: float) -> bool:
    """Whether every frame is less than half a frame away from where a constant rate has it."""
    return fps > 0 and all(
        abs(time - number / fps) <= 0.5 / fps for number, time in enumerate(times)
    )


def _in_segments(first: int, end: int, num_frames: int) -> list[int]:
    """The middles of equal segments from one frame to another; the reference's formula."""
    segment = (end - first) / num_frames
    middle = first + segment / 2
    return [int(middle + round(segment * index)) for index in range(num_frames)]


def _nearest_frames(times: Sequence[float], start: float, stop: float) -> tuple[int, int]:
    """The frames nearest to the start and the end of a bound."""
    usual = times[-1] / max(1, len(times) - 1)  # seconds from one frame to the next
    if stop < -usual / 2:
        raise RequestError(f"the bound ends at {stop} s, before the video begins")
    if start > times[-1] + usual:
        raise RequestError(
            f"the bound starts at {start} s, after the last frame of the video ({times[-1]:.2f} s)"
        )
    return _nearest(times, start), _nearest(times, stop)


def _nearest(times: Sequence[float], time: float) -> int:
    place = bisect_left(times, time)
    if place == 0:
        return 0
    if place == len(times):
        return place - 1
    return place if times[place] - time < time - times[place - 1] else place - 1
