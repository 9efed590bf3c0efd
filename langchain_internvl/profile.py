"""What every InternVL can do, as LangChain's model profiles say it."""

from __future__ import annotations

from langchain_core.language_models.model_profile import ModelProfile


def make_profile(*, reasoning: bool, max_tokens: int, context_window: int | None) -> ModelProfile:
    """The profile; nothing in it that only a checkpoint's files tell, which are not read yet.

    Args:
        reasoning: Whether the model is asked to think.
        max_tokens: Most tokens of a reply.
        context_window: Most tokens of prompt and reply, if set.
    """
    profile = ModelProfile(
        text_inputs=True,
        image_inputs=True,
        image_url_inputs=True,
        pdf_inputs=True,
        video_inputs=True,
        audio_inputs=False,
        image_tool_message=True,
        pdf_tool_message=True,
        text_outputs=True,
        image_outputs=False,
        audio_outputs=False,
        video_outputs=False,
        reasoning_output=reasoning,
        tool_calling=True,
        tool_choice=True,
        tool_call_streaming=True,
        structured_output=True,
        temperature=True,
        max_output_tokens=max_tokens,
    )
    if context_window is not None:
        profile["max_input_tokens"] = context_window
    return profile
