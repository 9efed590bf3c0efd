"""Reads frames of a video file in a separate process."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_internvl._optional import how_to_install
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
    """Selected frames of a video.

    Attributes:
        frames: The frames in order, each uint8 [height, width, 3], RGB; shared and read-only.
        indices: Their indices in the video. In place of a frame that cannot be decoded there is the
            next one that can, or the last one of the video.
        fps: Average frame rate of the video in frames per second; 0: unknown.
        frame_count: Number of frames of the video.
        times: Times of the frames in seconds from the first frame of the video; empty: unknown.
            With PyAV, or decord alone, the frames' own presentation times.
        duration: Length of the video in seconds; None: unknown.
        damage: Why frames of the video may be missing; None: no damage was found.
    """

    frames: tuple[NDArray[np.uint8], ...]
    indices: tuple[int, ...]
    fps: float
    frame_count: int
    times: tuple[float, ...] = ()
    duration: float | None = None
    damage: str | None = None


def read_clip(
    source: Source,
    policy: MediaPolicy,
    num_frames: int = 8,
    bound: tuple[float, float] | None = None,
    deadline: Deadline | None = None,
    *,
    by_time: bool = False,
) -> Clip:
    """Read frames of a video, selected by `frame_indices`.

    Args:
        source: The video.
        policy: Limits on bytes, frames, pixels and seconds.
        num_frames: Number of frames.
        bound: Start and end in seconds; None: the whole video.
        deadline: Deadline of the call; None: none.
        by_time: For videos without a constant rate, select frames at even intervals of time (see
            `frame_indices_by_time`); False: of frame numbers, as the reference does.

    Raises:
        MediaError: The file is empty, not a video, or none of its frames can be decoded.
        MediaTooLargeError: The file exceeds a limit of the policy.
        RequestError: The video has no frames within the bound.
        RequestTimeoutError: The deadline has passed.
        ImportError: The extra `video` is not installed.

    Warns:
        UserWarning: Frames may be missing because the file is cut off or damaged.
    """
    check_frames(num_frames, source.name, policy)
    if not can_read():
        raise ImportError(
            "decord or PyAV is needed for videos and is not installed: " + how_to_install("video")
        )
    limits = policy.for_videos()
    task = {"num_frames": num_frames, "bound": bound, "by_time": by_time}
    with decoding("video_worker", task, source, "video", limits, deadline or Deadline()) as records:
        images = [records.image() for _ in range(records.head()["images"])]
        clip = records.head()
        if clip["damage"]:
            warnings.warn(
                f"{source.name}: {clip['damage']}; frames may be missing, get the whole file",
                stacklevel=2,
            )
        return Clip(
            tuple(images[place] for place in clip["images"]),
            tuple(clip["indices"]),
            float(clip["fps"]),
            int(clip["frame_count"]),
            tuple(map(float, clip["times"])),
            clip["duration"],
            clip["damage"],
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
