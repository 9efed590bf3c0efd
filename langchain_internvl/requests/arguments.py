"""Arguments of both renderers, from the settings of a call."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from langchain_internvl.tool_calling.response_format import ResponseFormat

if TYPE_CHECKING:
    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.reader import MediaReader
    from langchain_internvl.prompting.build import PromptOptions
    from langchain_internvl.settings.call import CallSettings


class CallArguments(TypedDict):
    """The common fields of `Renderer` and `TurnRenderer`."""

    options: PromptOptions
    policy: MediaPolicy
    media: MediaReader
    deadline: Deadline
    num_frames: int
    exif_transpose: bool
    scale_16bit: bool
    white_background: bool
    form: ResponseFormat


def call_arguments(
    settings: CallSettings,
    form: ResponseFormat | None,
    *,
    policy: MediaPolicy,
    media: MediaReader,
    deadline: Deadline,
) -> CallArguments:
    """The arguments of a renderer that are the same for prompts by ids and by messages.

    Args:
        settings: Settings of the call.
        form: Response format; None: any text.
        policy: Limits on media.
        media: Reader of videos and PDFs.
        deadline: Deadline of the call.
    """
    return CallArguments(
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
