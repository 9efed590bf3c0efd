"""Which frames of a video are shown.

Formula: `get_index` of the InternVL2 quick start. The clip, or a part of it, is cut into as many
equal segments as frames are wanted, and each gives the frame in its middle.
"""

from __future__ import annotations

from langchain_internvl.errors import RequestError


def frame_indices(
    num_frames_in_clip: int,
    fps: float,
    num_frames: int = 8,
    bound: tuple[float, float] | None = None,
) -> list[int]:
    """The frames of a video that are shown.

    Args:
        num_frames_in_clip: Number of frames of the video.
        fps: Frames per second.
        num_frames: How many frames are wanted. A clip with fewer shows some of them twice, as in
            the reference.
        bound: Start and end in seconds; None: the whole video. What lies outside the video is cut
            off. (A bound that ends before the first frame, starts after the last or is reversed
            gives frames that do not exist in the reference; here it is refused.)

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
        if not fps > 0:
            raise RequestError("the video does not tell its frame rate, so it has no seconds")
        if stop * fps < -0.5:  # it would be rounded to a frame before the first
            raise RequestError(f"the bound ends at {stop} s, before the video begins")
        # Clamped before they are rounded: infinity is a fair end.
        first, end = (round(min(max(0.0, time * fps), last + 1.0)) for time in (start, stop))
        if first > last:
            raise RequestError(
                f"the bound starts at {start} s, after the end of the video ({last / fps:.2f} s)"
            )
        end = min(end, last)
    segment = (end - first) / num_frames
    middle = first + segment / 2
    return [int(middle + round(segment * index)) for index in range(num_frames)]
