"""Whether a prompt and its reply fit the model's context window."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_internvl.errors import ContextOverflowError
from langchain_internvl.segments import Prompt


def fit_reply(
    window: int | None,
    prompt: Prompt,
    prompt_tokens: int,
    context_tokens: Sequence[int],
    max_tokens: int,
) -> int:
    """How long a reply may become.

    Args:
        window: Most tokens of prompt and reply together; None: unknown.
        prompt: The prompt.
        prompt_tokens: Its tokens.
        context_tokens: Tokens of each of its images.
        max_tokens: Most tokens that are wanted.

    Returns:
        `max_tokens`, or what the window leaves.

    Raises:
        ContextOverflowError: The prompt alone is too long; says what makes it so.
    """
    if window is None or prompt_tokens + max_tokens <= window:
        return max_tokens
    if prompt_tokens < window:
        return window - prompt_tokens
    words = prompt_tokens - sum(context_tokens)
    images = [
        f"image {number} ({image.source.name[:60]}): {tokens}"
        for number, (image, tokens) in enumerate(zip(prompt.images, context_tokens, strict=True), 1)
    ]
    shown = images if len(images) <= 8 else [*images[:7], f"{len(images) - 7} more"]
    advice = "lower max_tiles (or num_frames of videos), " if images else ""
    raise ContextOverflowError(
        f"the prompt has {prompt_tokens} tokens, and the context window {window}: "
        f"{', '.join([*shown, f'words: {words}'])}. To fit, {advice}leave out earlier messages "
        "(trim_messages), or set context_window if the model was made for more"
    )
