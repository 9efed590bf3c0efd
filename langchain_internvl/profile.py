"""Capabilities of a model, as a LangChain model profile."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.language_models.model_profile import ModelProfile


def make_profile(
    *,
    reasoning: bool,
    max_tokens: int,
    context_window: int | None,
    writes_prompt: bool,
    effort_levels: Sequence[str] = (),
) -> ModelProfile:
    """The profile of a model.

    Args:
        reasoning: Whether thinking is requested.
        max_tokens: Maximum number of tokens of a reply.
        context_window: Maximum tokens of prompt and reply together; None: unknown.
        writes_prompt: Whether this package builds the prompts, and not a server.
        effort_levels: Values of `reasoning` that set the reasoning effort; empty: none, and the
            profile does not have the field.
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
    newer = {
        "open_weights": True,
        "attachment": True,
        "mid_conversation_system_messages": writes_prompt,
        **({"reasoning_effort_levels": list(effort_levels)} if effort_levels else {}),
    }
    known = ModelProfile.__annotations__  # older langchain-core releases warn of unknown names
    profile.update({name: one for name, one in newer.items() if name in known})  # type: ignore[typeddict-item]
    if context_window is not None:
        profile["max_input_tokens"] = context_window
    return profile
