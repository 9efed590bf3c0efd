"""Page orientation, from the model's probabilities of four answers and from trial readings."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import replace

from PIL import Image

from langchain_internvl.documents.ladder import read_image
from langchain_internvl.documents.reading import (
    Ask,
    Attempt,
    PageText,
    ReadOptions,
    RetriesSpent,
    Script,
)
from langchain_internvl.errors import BackendError, RequestError

QUESTION = "How must this page be turned so that its text is upright?"
ANSWERS = {
    "not at all": 0,
    "90 degrees clockwise": 90,
    "180 degrees": 180,
    "90 degrees counterclockwise": 270,
}
"""The four answers, and the clockwise turn that each stands for, in degrees."""

_TURNS = {
    90: Image.Transpose.ROTATE_270,  # Pillow turns counter-clockwise
    180: Image.Transpose.ROTATE_180,
    270: Image.Transpose.ROTATE_90,
}
_SURE = 0.9
"""Least probability of an answer that is accepted where readings cannot be compared."""
_SMALL = 896
"""Longer side, in pixels, of the page in the orientation request: four tiles suffice."""


def turn(image: Image.Image, degrees: int) -> Image.Image:
    """An image turned clockwise by 0, 90, 180 or 270 degrees."""
    return image if degrees == 0 else image.transpose(_TURNS[degrees])


def ask_orientation(image: Image.Image, *, is_retry: bool = False) -> Ask:
    """The request for the orientation of a page; `choices` of the reply has probabilities."""
    small = image.copy()
    small.thumbnail((_SMALL, _SMALL))
    return Ask(small, QUESTION, {"choices": list(ANSWERS)}, is_retry=is_retry)


def ranked(choices: Mapping[str, float]) -> list[tuple[int, float]]:
    """Turns in degrees with their probabilities, the most probable first.

    Args:
        choices: Probabilities of the answers. An empty mapping (the backend does not support
            choices) makes all equal, with the quarter turns first: sideways scans are the most
            common.
    """
    if not choices:
        return [(degrees, 0.25) for degrees in (0, 270, 90, 180)]
    weighed = [(degrees, choices.get(answer, 0.0)) for answer, degrees in ANSWERS.items()]
    return sorted(weighed, key=lambda one: -one[1])


def reads_badly(read: PageText, options: ReadOptions) -> bool:
    """Whether the text of a page looks like that of a turned page.

    The text of a page with ink is empty, the reply is a repetition loop up to its limit, or its
    tokens have a mean probability below `options.least_probability`.
    """
    if not read.text or read.is_stuck:
        return True
    return read.probability is not None and read.probability < options.least_probability


def read_any_way_up(image: Image.Image, options: ReadOptions) -> Script:
    """Read a page in the orientation with the best reading.

    With "auto", a page that reads well is read once. A page that reads badly is turned: first by
    the orientation that the model reports, then by the others, until one reads well. If the engine
    reports probabilities, the better reading is kept; otherwise the page is turned only to an
    orientation with a probability of at least 0.9.

    Args:
        image: The page, in mode RGB.
        options: How pages are read.
    """
    if options.rotation == "always":
        choices = yield from _weigh(image)
        degrees, probability = ranked(choices)[0]
        if probability < 0.5:
            degrees = 0
        read = yield from read_image(turn(image, degrees), options)
        return _turned(read, degrees)
    first = yield from read_image(image, options)
    if options.rotation == "never" or not reads_badly(first, options):
        return first
    return (yield from _try_turns(image, options, first))


def _try_turns(image: Image.Image, options: ReadOptions, first: PageText) -> Script:
    best = first
    once = replace(options, temperatures=())  # a loop in a turned page is the answer already
    try:
        choices = yield from _weigh(image, is_retry=True)
        for degrees, probability in ranked(choices):
            if degrees == 0:
                continue
            if first.probability is None and (not choices or probability < _SURE):
                break  # the readings cannot be compared
            read = yield from read_image(turn(image, degrees), once, is_retry=True)
            if goodness(read) > goodness(best):
                best = _turned(read, degrees)
            if not reads_badly(best, options):
                break
    except RetriesSpent:
        pass
    return best


def goodness(read: PageText) -> tuple[bool, float, int]:
    """Sort key of readings of a page: the greater, the better."""
    return not read.is_stuck and bool(read.text), read.probability or 0.0, len(read.text)


def _weigh(
    image: Image.Image, *, is_retry: bool = False
) -> Generator[Ask, Attempt, Mapping[str, float]]:
    """Probabilities of the four answers; empty if the backend does not support choices."""
    try:
        reply = yield ask_orientation(image, is_retry=is_retry)
    except (BackendError, RequestError):  # servers do not support choices
        return {}
    return reply.choices


def _turned(read: PageText, degrees: int) -> PageText:
    return replace(read, rotation=degrees)
