"""Selection of the frames of a video.

Formula: `get_index` of the InternVL2 quick start. The clip, or a part of it, is divided into as
many equal segments as frames are requested, and the middle frame of each is taken. The formula
assumes a constant frame rate; for other videos seconds refer to the times of the frames.
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
    """The indices of the frames of a video for a message.

    Args:
        num_frames_in_clip: Number of frames of the video.
        fps: Frames per second.
        num_frames: Number of requested frames. A shorter clip repeats some of its frames, as in
            the reference.
        bound: Start and end in seconds; None: the whole video. The bound is clipped to the video.
            (For a bound that ends before the first frame, starts after the last or is reversed,
            the reference returns frames that do not exist; here it is refused.)
        times: Time of each frame in seconds, ascending from 0; empty: unknown. If they show that
            the rate is not constant, the bound is mapped to the frames with the nearest times.

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
        if stop * fps < -0.5:  # rounds to a frame before the first
            raise RequestError(f"the bound ends at {stop} s, before the video begins")
        # Clamped before rounding, because infinity is a valid end.
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
    """The indices of frames at even intervals of time, for any frame rate.

    The time range is divided into as many equal spans as frames are requested; each gives the
    frame in the range that is nearest to its middle. A range between two frames gives the frame
    that is visible then.

    Args:
        times: Time of each frame in seconds, ascending from 0.
        duration: Length of the video in seconds.
        num_frames: Number of requested frames; some may be equal.
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
    """Whether every frame is less than half a frame away from its time at a constant rate."""
    return fps > 0 and all(
        abs(time - number / fps) <= 0.5 / fps for number, time in enumerate(times)
    )


def _in_segments(first: int, end: int, num_frames: int) -> list[int]:
    """The middle frames of equal segments from one frame to another; the reference's formula."""
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
