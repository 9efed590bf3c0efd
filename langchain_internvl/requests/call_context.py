"""The options of one call, which requests by token ids and by messages share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from langchain_internvl.media.deadline import Deadline
from langchain_internvl.messages.expand import FileReader
from langchain_internvl.tool_calling.response_format import ResponseFormat

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.reader import MediaReader
    from langchain_internvl.prompting.build import PromptOptions
    from langchain_internvl.settings.call import CallSettings


@dataclass(frozen=True, kw_only=True)
class CallContext:
    """Base of both renderers: how the media and the reply of one call are handled.

    Attributes:
        options: Options of media and the system text.
        policy: Limits on media.
        media: Reader of videos and PDFs.
        deadline: Deadline of the call.
        num_frames: Number of frames of a video file, unless its block sets it.
        exif_transpose: Rotate images by their EXIF orientation.
        scale_16bit: Scale 16-bit grey images to 8 bits.
        white_background: Put transparent images on white.
        form: Response format.
    """

    options: PromptOptions
    policy: MediaPolicy
    media: MediaReader
    deadline: Deadline = field(default_factory=Deadline)
    num_frames: int = 8
    exif_transpose: bool = False
    scale_16bit: bool = False
    white_background: bool = False
    form: ResponseFormat = field(default_factory=ResponseFormat)

    def file_reader(self) -> FileReader:
        """Reader of the videos and PDFs of messages."""
        return FileReader(self.policy, self.media, self.deadline, self.num_frames)


def context_of(
    settings: CallSettings,
    form: ResponseFormat | None,
    *,
    policy: MediaPolicy,
    media: MediaReader,
    deadline: Deadline,
) -> dict[str, Any]:
    """The fields of `CallContext`, as arguments of a renderer.

    Args:
        settings: Settings of the call.
        form: Response format; None: any text.
        policy: Limits on media.
        media: Reader of videos and PDFs.
        deadline: Deadline of the call.
    """
    return vars(
        CallContext(
            options=settings.prompt_options(),
            policy=policy,
            media=media,
            deadline=deadline,
            num_frames=settings.num_frames,
            exif_transpose=settings.exif_transpose,
            scale_16bit=settings.scale_16bit,
            white_background=settings.white_background,
            form=form or ResponseFormat(),
        )
    )
