"""Reading one image by a model, with one remedy for each cause of a bad reply.

| cause | remedy |
|---|---|
| the reply reached its limit of tokens | four times as many tokens, then the image in halves |
| a repetition loop up to the limit, or ended by a server | other temperatures and seeds |
| a reply that ended by itself repeats itself | none: all its text is kept, and flagged |
| the image needs more tiles than the budget | parts that overlap |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from langchain_internvl.documents.elements import merge_elements, split_elements
from langchain_internvl.documents.parts import Part, cut_bands, cut_to_budget, merge_texts
from langchain_internvl.documents.reading import (
    Ask,
    Attempt,
    PageText,
    ReadOptions,
    RetriesSpent,
    Script,
)
from langchain_internvl.errors import ContextOverflowError

_MORE = 4
"""Factor of the limit of tokens after a reply that reached it."""
_LEAST_LIMIT = 1024
"""Limit of tokens that is assumed where none is given: the chat model's default."""
_DEPTH = 2
"""Depth of halving: at most four parts."""
_LEAST_HEIGHT = 128
"""Images lower than this, in pixels, are not halved: a few lines of text."""


def read_image(image: Image.Image, options: ReadOptions, *, is_retry: bool = False) -> Script:
    """Read an image, in parts if it needs more tiles than `options.budget`.

    Args:
        image: The page, upright, in mode RGB.
        options: How pages are read.
        is_retry: Whether the image was read before, in another orientation.
    """
    parts = cut_to_budget(image, options.budget)
    return (yield from _read_all(parts, image.size, options, 0, is_retry=is_retry))


def _read_all(
    parts: Sequence[Part],
    size: tuple[int, int],
    options: ReadOptions,
    depth: int,
    *,
    is_retry: bool,
) -> Script:
    """Read the parts of an image of a size in pixels, in order, and join their texts."""
    read: list[PageText] = []
    for image, box in parts:
        one = yield from _read_part(image, options, depth, is_retry=is_retry)
        placed = tuple(element.placed(box, size) for element in one.elements)
        read.append(replace(one, elements=placed))
    return join(read)


def _read_part(image: Image.Image, options: ReadOptions, depth: int, *, is_retry: bool) -> Script:
    """Read an image in one reply, or in halves."""
    first = yield ask(image, options, is_retry=is_retry)
    if first.is_stuck:
        return (yield from _retry_loop(image, options, first))
    if first.is_complete:
        return finished(first)
    return (yield from _make_room(image, options, first, depth))


def ask(
    image: Image.Image, options: ReadOptions, *, is_retry: bool = False, **settings: Any
) -> Ask:
    """The question about an image."""
    limit = {} if options.max_tokens is None else {"max_tokens": options.max_tokens}
    return Ask(image, options.question, {**limit, **settings}, options.max_tiles, is_retry)


def _make_room(image: Image.Image, options: ReadOptions, cut: Attempt, depth: int) -> Script:
    """Read again after a reply that reached its limit: with more tokens, then in halves."""
    limit = _MORE * max(options.max_tokens or _LEAST_LIMIT, 1)
    try:
        longer = yield ask(image, options, is_retry=True, max_tokens=limit)
    except RetriesSpent:
        return finished(cut)
    except ContextOverflowError:  # there is no room for more
        longer = cut
    if longer.is_stuck:
        return (yield from _retry_loop(image, options, longer, max_tokens=limit))
    if longer.is_complete:
        return finished(longer)
    if depth >= _DEPTH or image.height < _LEAST_HEIGHT:
        return finished(longer)
    bands = cut_bands(image, 2)
    try:
        return (yield from _read_all(bands, image.size, options, depth + 1, is_retry=True))
    except RetriesSpent:
        return finished(longer)


def _retry_loop(
    image: Image.Image,
    options: ReadOptions,
    stuck: Attempt,
    **settings: Any,
) -> Script:
    """Read again after a repetition loop, at other temperatures and seeds, until a reply ends."""
    best = stuck
    for seed, temperature in enumerate(options.temperatures, 1):
        changed: Mapping[str, Any] = {**settings, "temperature": temperature, "seed": seed}
        try:
            tried = yield ask(image, options, is_retry=True, **changed)
        except RetriesSpent:
            break
        if not tried.is_stuck:
            return finished(tried)
        if len(tried.kept) > len(best.kept):
            best = tried
    return finished(best)


def finished(attempt: Attempt) -> PageText:
    """The text of an accepted reply, with its `problem` if it may be incomplete.

    Args:
        attempt: The reply.
    """
    text, named = split_elements(attempt.kept)
    layout = split_elements(attempt.thoughts)[1]
    return PageText(
        text,
        # Layout in the thoughts is complete; the text then repeats the boxes of its pictures.
        elements=layout or named,
        problem=attempt.problem,
        finish_reason=attempt.finish_reason,
        probability=attempt.probability,
        model=attempt.model,
    )


def join(parts: Sequence[PageText]) -> PageText:
    """Joins the texts of parts; the problem of one part becomes the problem of the whole."""
    if len(parts) == 1:
        return parts[0]
    known = [(one.probability, max(len(one.text), 1)) for one in parts if one.probability]
    weight = sum(length for _, length in known)
    problems = [one.problem for one in parts if one.problem is not None]
    return PageText(
        merge_texts([one.text for one in parts]),
        problem=problems[0] if problems else None,
        finish_reason=_worst([one.finish_reason or "stop" for one in parts]),
        probability=math.fsum(one * length for one, length in known) / weight if known else None,
        parts=sum(one.parts for one in parts),
        elements=merge_elements([one.elements for one in parts]),
        model=parts[0].model,
    )


def _worst(reasons: Sequence[str]) -> str:
    """The finish reason of a page in parts: "length", else any but "stop", else "stop"."""
    return min(reasons, key=lambda one: (one != "length", one == "stop"))
