"""Frames of a video file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_internvl.errors import MediaTooLargeError
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.process import decoding
from langchain_internvl.media.video_readers import can_read

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source


@dataclass(frozen=True)
class Clip:
    """The frames of a video that are shown.

    Attributes:
        frames: The frames in order, each uint8 [height, width, 3], RGB; they may be shared and
            cannot be written to.
        indices: Their indices in the video.
        fps: Frames per second of the video, on average; 0 if the file does not tell.
        frame_count: Number of frames of the video.
        times: When the frames are, in seconds from the first frame of the video; empty if the file
            does not tell. With PyAV, or decord alone, the frames' own times.
        duration: Length of the video in seconds; None if the file does not tell.
    """

    frames: tuple[NDArray[np.uint8], ...]
    indices: tuple[int, ...]
    fps: float
    frame_count: int
    times: tuple[float, ...] = ()
    duration: float | None = None


def read_clip(
    source: Source,
    policy: MediaPolicy,
    num_frames: int = 8,
    bound: tuple[float, float] | None = None,
    deadline: Deadline | None = None,
    *,
    by_time: bool = False,
) -> Clip:
    """Take frames from a video; see `frame_indices` for which.

    Args:
        source: Where the video comes from.
        policy: Limits on bytes, frames, pixels and seconds.
        num_frames: How many frames.
        bound: Start and end in seconds; None: the whole video.
        deadline: Deadline of the call; None: none.
        by_time: Spread the frames over the seconds of a video without a constant rate, see
            `frame_indices_by_time`; False: over its frames, as the reference does.

    Raises:
        MediaError: The file is empty, damaged or no video.
        MediaTooLargeError: It is over a limit of the policy.
        RequestError: It has no frames within the bound.
        RequestTimeoutError: The deadline came first.
        ImportError: The extra `video` is not installed.
    """
    check_frames(num_frames, source.name, policy)
    if not can_read():
        raise ImportError(
            "decord or PyAV is needed for videos and is not installed: "
            "pip install 'langchain-internvl[video]' (in a clone: pip install '.[video]')"
        )
    limits = policy.for_videos()
    task = {"num_frames": num_frames, "bound": bound, "by_time": by_time}
    with decoding("video_worker", task, source, "video", limits, deadline or Deadline()) as records:
        clip = records.head()
        indices = clip["indices"]
        shown = {index: records.image() for index in sorted(set(indices))}
        frames = tuple(shown[index] for index in indices)
        return Clip(
            frames,
            tuple(indices),
            float(clip["fps"]),
            int(clip["frame_count"]),
            tuple(map(float, clip["times"])),
            clip["duration"],
        )


def check_frames(count: int, name: str, policy: MediaPolicy) -> None:
    """Check the number of requested frames.

    Raises:
        MediaTooLargeError: There are more than the policy allows.
    """
    if count > policy.max_frames:
        raise MediaTooLargeError(
            name, f"{count} frames are over MediaPolicy.max_frames={policy.max_frames}"
        )
