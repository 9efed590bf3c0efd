"""Fits a prompt and its reply into the model's context window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from langchain_internvl.errors import ContextOverflowError
from langchain_internvl.prompting.segments import Prompt


def fit_reply(
    window: int | None,
    prompt: Prompt,
    prompt_tokens: int,
    context_tokens: Sequence[int],
    max_tokens: int,
) -> int:
    """The maximum number of tokens of a reply.

    Args:
        window: Context window in tokens, prompt and reply together; None: unknown.
        prompt: The prompt.
        prompt_tokens: Number of tokens of the prompt.
        context_tokens: Number of tokens of each of its images.
        max_tokens: Requested maximum.

    Returns:
        `max_tokens`, or fewer if the window has no room for them.

    Raises:
        ContextOverflowError: The prompt alone is too long; the message lists the tokens of its
            parts.
    """
    if window is None or prompt_tokens + max_tokens <= window:
        return max_tokens
    if prompt_tokens < window:
        return window - prompt_tokens
    text_tokens = prompt_tokens - sum(context_tokens)
    names = [image.source.name[:60] for image in prompt.images]
    images = list(_tokens_by_image(names, context_tokens))
    advice = "lower max_tiles (or num_frames of videos), " if images else ""
    raise ContextOverflowError(
        f"the prompt has {prompt_tokens} tokens, and the context window {window}: "
        f"{', '.join([*images, f'text: {text_tokens}'])}. To fit, {advice}leave out earlier "
        "messages (trim_messages), or set context_window if the model was made for more"
    )


def _tokens_by_image(names: Sequence[str], tokens: Sequence[int]) -> Iterator[str]:
    """The tokens of each image as text; runs of equal images, such as frames, are summarised."""
    numbers = range(1, len(names) + 1)
    for count, group in groupby(zip(numbers, names, tokens, strict=True), lambda image: image[2]):
        alike = list(group)
        (first, first_name, _), (last, last_name, _) = alike[0], alike[-1]
        if len(alike) > 3:
            yield f"images {first} ({first_name}) to {last} ({last_name}): {count} each"
        else:
            yield from (f"image {number} ({name}): {count}" for number, name, _ in alike)
