"""Reading one image by a model, with one remedy for each cause of a bad reply.

| cause | remedy |
|---|---|
| the reply reached its limit of tokens | four times as many tokens, then the image in halves |
| a repetition loop up to the limit | other temperatures and seeds |
| a reply that ended by itself repeats itself | none: all its text is kept, and flagged |
| the image needs more tiles than the budget | parts that overlap |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from langchain_internvl.documents.parts import cut_bands, cut_to_budget, merge_texts
from langchain_internvl.documents.reading import (
    Ask,
    Attempt,
    PageText,
    Problem,
    ReadOptions,
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


def read_image(image: Image.Image, options: ReadOptions) -> Script:
    """Read an image, in parts if it needs more tiles than `options.budget`.

    Args:
        image: The page, upright, in mode RGB.
        options: How pages are read.
    """
    parts = cut_to_budget(image, options.budget)
    return (yield from _read_all(parts, options, 0))


def _read_all(parts: Sequence[Image.Image], options: ReadOptions, depth: int) -> Script:
    """Read parts in order, and join their texts."""
    read: list[PageText] = []
    for part in parts:
        read += [(yield from _read_part(part, options, depth))]
    return join(read)


def _read_part(image: Image.Image, options: ReadOptions, depth: int) -> Script:
    """Read an image in one reply, or in halves."""
    first = yield ask(image, options)
    if first.is_stuck:
        return (yield from _retry_loop(image, options, first, 1))
    if first.is_complete:
        return finished(first, 1)
    return (yield from _make_room(image, options, first, depth))


def ask(image: Image.Image, options: ReadOptions, **settings: Any) -> Ask:
    """The question about an image."""
    limit = {} if options.max_tokens is None else {"max_tokens": options.max_tokens}
    return Ask(image, options.question, {**limit, **settings}, options.max_tiles)


def _make_room(image: Image.Image, options: ReadOptions, cut: Attempt, depth: int) -> Script:
    """Read again after a reply that reached its limit: with more tokens, then in halves."""
    limit = _MORE * max(options.max_tokens or _LEAST_LIMIT, 1)
    attempts = 1
    try:
        longer = yield ask(image, options, max_tokens=limit)
    except ContextOverflowError:  # there is no room for more
        longer = cut
    else:
        attempts += 1
    if longer.is_stuck:
        return (yield from _retry_loop(image, options, longer, attempts, max_tokens=limit))
    if longer.is_complete:
        return finished(longer, attempts)
    if depth >= _DEPTH or image.height < _LEAST_HEIGHT:
        return finished(longer, attempts)
    halves = yield from _read_all(cut_bands(image, 2), options, depth + 1)
    return halves.after(attempts)


def _retry_loop(
    image: Image.Image,
    options: ReadOptions,
    stuck: Attempt,
    attempts: int,
    **settings: Any,
) -> Script:
    """Read again after a repetition loop, at other temperatures and seeds, until a reply ends."""
    best = stuck
    for seed, temperature in enumerate(options.temperatures, 1):
        changed: Mapping[str, Any] = {**settings, "temperature": temperature, "seed": seed}
        tried = yield ask(image, options, **changed)
        attempts += 1
        if not tried.is_stuck:
            return finished(tried, attempts)
        if len(tried.loop or "") > len(best.loop or ""):
            best = tried
    return finished(best, attempts)


def finished(attempt: Attempt, attempts: int) -> PageText:
    """The text of an accepted reply, with its `problem` if it may be incomplete.

    A loop that ran up to the limit of tokens is cut after its first turn. A reply that ended by
    itself keeps all its text: a table may end in 24 equal rows.

    Args:
        attempt: The reply.
        attempts: Number of replies so far, this one included.
    """
    loop = attempt.loop
    problem: Problem | None = "repetition" if loop is not None else None
    if problem is None and not attempt.is_complete:
        problem = "length"
    text = attempt.text if loop is None or attempt.is_complete else loop.rstrip()
    return PageText(
        text,
        problem=problem,
        attempts=attempts,
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
        attempts=sum(one.attempts for one in parts),
        finish_reason="length" if any(one.finish_reason == "length" for one in parts) else "stop",
        probability=math.fsum(one * length for one, length in known) / weight if known else None,
        parts=sum(one.parts for one in parts),
        model=parts[0].model,
    )
