"""Whether a prompt and its reply fit the model's context window."""

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
    names = [image.source.name[:60] for image in prompt.images]
    images = list(_told(names, context_tokens))
    advice = "lower max_tiles (or num_frames of videos), " if images else ""
    raise ContextOverflowError(
        f"the prompt has {prompt_tokens} tokens, and the context window {window}: "
        f"{', '.join([*images, f'words: {words}'])}. To fit, {advice}leave out earlier messages "
        "(trim_messages), or set context_window if the model was made for more"
    )


def _told(names: Sequence[str], tokens: Sequence[int]) -> Iterator[str]:
    """What each image takes; long rows of equal ones, as frames are, together."""
    numbers = range(1, len(names) + 1)
    for count, group in groupby(zip(numbers, names, tokens, strict=True), lambda image: image[2]):
        alike = list(group)
        (first, first_name, _), (last, last_name, _) = alike[0], alike[-1]
        if len(alike) > 3:
            yield f"images {first} ({first_name}) to {last} ({last_name}): {count} each"
        else:
            yield from (f"image {number} ({name}): {count}" for number, name, _ in alike)
