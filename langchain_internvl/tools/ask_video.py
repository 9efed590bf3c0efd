"""Answer a question about a video."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image
from pydantic import BaseModel, Field

from langchain_internvl.errors import MediaError, MediaTooLargeError
from langchain_internvl.media.images import load_readable
from langchain_internvl.media.video_process import Clip, check_frames, read_clip
from langchain_internvl.tools.answers import answer_of, in_language
from langchain_internvl.tools.arguments import LANGUAGE, VIDEO
from langchain_internvl.tools.base import Arguments, Ask, InternVLTool, Outcome, Script
from langchain_internvl.tools.media_access import resolve_video
from langchain_internvl.tools.task_prompts import WATCH

if TYPE_CHECKING:
    from numpy.typing import NDArray


class VideoAnswer(BaseModel):
    """Answer to a question about a video.

    Attributes:
        video: The video, as given by the agent.
        question: The question.
        text: The answer.
        timestamps: Times of the frames in the prompt, in seconds; empty: unknown.
        num_frames: Number of frames in the prompt.
        duration: Length of the whole video in seconds; None: unknown.
        is_complete: Whether the model ended the answer, rather than the limit of tokens or a
            server (its content filter, its detection of repetitions).
        damage: Why frames at the end of the video may be missing; None: no damage was found.
    """

    video: str
    question: str
    text: str
    timestamps: list[float]
    num_frames: int
    duration: float | None = None
    is_complete: bool = True
    damage: str | None = None


class VideoArguments(Arguments):
    """Arguments of `ask_video`."""

    video: str = Field(description=VIDEO)
    question: str | None = Field(
        default=None, description="What to find out; without it the video is described."
    )
    start: float | None = Field(default=None, ge=0, description="Only look from this second on.")
    end: float | None = Field(default=None, ge=0, description="Only look up to this second.")
    num_frames: int | None = Field(
        default=None,
        ge=1,
        description="How many frames to look at, evenly spread; usually 8, more for quick events.",
    )
    language: str | None = Field(default=None, description=LANGUAGE)


class VideoQATool(InternVLTool):
    """Answers a question about a video; the artifact is a `VideoAnswer`."""

    name: str = "ask_video"
    description: str = (
        "Look at a video and answer a question about what happens in it. Sees single frames, "
        "evenly spread; for a moment in a long video give start and end in seconds. Hears nothing."
    )
    args_schema: Any = VideoArguments

    def script(self, state: Any, given: VideoArguments) -> Script:
        """Sample frames, and ask the question."""
        bound = None
        if given.start is not None or given.end is not None:
            bound = (given.start or 0.0, math.inf if given.end is None else given.end)
            if bound[0] > bound[1]:
                raise MediaError(
                    given.video, f"start={bound[0]} is after end={bound[1]}; swap them"
                )
        clip = self._clip(state, given.video, given.num_frames, bound)
        text = in_language(given.question or WATCH, given.language)
        frames = [Image.fromarray(frame) for frame in clip.frames]
        shown = {"type": "video", "video": frames}
        reply = yield Ask([shown, {"type": "text", "text": text}])
        answer = answer_of(reply)
        times = [round(time, 2) for time in clip.times]
        artifact = VideoAnswer(
            video=given.video,
            question=text,
            text=answer.text,
            timestamps=times,
            num_frames=len(frames),
            duration=None if clip.duration is None else round(clip.duration, 2),
            is_complete=answer.is_complete,
            damage=clip.damage,
        )
        seen = f"\n(Frames at {', '.join(f'{time:g}' for time in times)} s.)" if times else ""
        if clip.damage:
            seen += f"\n(The video is not complete: {clip.damage}.)"
        return Outcome(answer.for_agent + seen, artifact)

    def _clip(
        self,
        state: Any,
        video: str,
        num_frames: int | None,
        bound: tuple[float, float] | None,
    ) -> Clip:
        """Sample the frames of the requested time range."""
        policy = self.media_policy
        part = resolve_video(video, policy, state)
        if part.source is not None:
            own = getattr(self.llm, "num_frames", _FRAMES)
            many = num_frames or part.num_frames or own
            return read_clip(part.source, policy, many, _both(bound, part.bound), by_time=True)
        # A list of frames is used whole; its frames have no times.
        if bound is not None:
            raise MediaError(video, "is a list of frames without times; leave start and end out")
        check_frames(len(part.frames), video, policy)
        frames: list[NDArray[np.uint8]] = []
        for frame in part.frames:
            frames.append(np.asarray(load_readable(frame.source, policy)))
            if sum(one.size // 3 for one in frames) > policy.max_total_pixels:
                limit = f"MediaPolicy.max_total_pixels={policy.max_total_pixels}"
                raise MediaTooLargeError(video, f"its frames are over {limit}")
        return Clip(tuple(frames), tuple(range(len(frames))), 0.0, len(frames))


_FRAMES = 8
"""Number of frames for a model without a setting of it."""


def _both(
    asked: tuple[float, float] | None, shown: tuple[float, float] | None
) -> tuple[float, float] | None:
    """The intersection of two time ranges."""
    if asked is None or shown is None:
        return asked or shown
    return max(asked[0], shown[0]), max(asked[0], shown[0], min(asked[1], shown[1]))
