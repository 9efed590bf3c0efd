"""Locates cited statements on the image of their page, by a box from the model or by reading.

Both are generators that yield requests and receive the replies, so that sync and async callers run
the same steps. A request that fails leaves out its own statement, or its own line, and is reported.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from langchain_internvl.documents.ladder import finished
from langchain_internvl.documents.line_crops import show_line
from langchain_internvl.documents.line_matching import Match, match_lines
from langchain_internvl.documents.reading import Ask, Attempt
from langchain_internvl.documents.reading_order import Edges, in_rows, is_level
from langchain_internvl.documents.skew import levelled_size, unlevel
from langchain_internvl.documents.text_lines import cut_lines
from langchain_internvl.grounding import Box, parse_grounding
from langchain_internvl.tools.task_prompts import GROUND, READ

Way = Literal["boxes", "reading"]
"""How statements are located: "boxes": the model is asked for their boxes; "reading": it reads the
page line by line, and the lines with a statement have its box."""

MOST_LINES = 200
"""Most lines of a page that are read, the first in reading order."""
_AT_ONCE = 32
"""Lines in one batch; after each, statements that are found need no further lines."""
_SURE = 0.95
"""Similarity from which no further lines are read."""
_LONGEST = 200
"""Most characters of a statement in a request for its box, and of the label of a box."""
_MOST_TOKENS = 256
"""Most tokens of the reading of a line."""


@dataclass(frozen=True)
class Batch:
    """Requests that are independent of each other.

    Attributes:
        inputs: The messages of each.
        settings: Settings of all.
    """

    inputs: list[list[HumanMessage]]
    settings: Mapping[str, Any] = field(default_factory=dict)


Replies: TypeAlias = "Sequence[AIMessage | Exception]"
"""The reply to each request of a `Batch`, or its error."""


@dataclass(frozen=True)
class Located:
    """Where statements are on a page.

    Attributes:
        boxes: Their boxes, in the order of the statements.
        unlocated: Statements without a box, and lines that were not read, with the reasons.
    """

    boxes: tuple[Box, ...] = ()
    unlocated: tuple[str, ...] = ()


Locating: TypeAlias = Generator[Batch, Replies, Located]
"""Yields requests, receives their replies, and returns where the statements are."""


def locate_by_boxes(image: Image.Image, statements: Sequence[str]) -> Locating:
    """Asks the model for the box of each statement.

    Args:
        image: The page, in mode RGB.
        statements: The statements.
    """
    questions = [GROUND.format(statement[:_LONGEST]) for statement in statements]
    replies = yield Batch([Ask(image, question).messages for question in questions])
    boxes: list[Box] = []
    unlocated: list[str] = []
    for statement, reply in zip(statements, replies, strict=True):
        if isinstance(reply, Exception):
            unlocated.append(f"{statement!r}: {reply}")
            continue
        found = parse_grounding(reply.text, size=image.size)
        boxes += found.boxes
        if not found.boxes:
            reasons = "; ".join(found.rejected) or "the model named no box"
            unlocated.append(f"{statement!r}: {reasons}")
    return Located(tuple(boxes), tuple(unlocated))


def locate_by_reading(
    image: Image.Image, statements: Sequence[str], metadata: Mapping[str, Any]
) -> Locating:
    """Reads the lines of the page until the statements are found among them.

    Regions in the metadata whose label or brief is the statement are taken without a request.

    Args:
        image: The page, turned as `rotation` says, in mode RGB.
        statements: The statements.
        metadata: The page's metadata, of `InternVLLoader`.
    """
    regions = _regions(metadata, image.size)
    matches = {one: _match(one, regions) for one in statements}
    boxes = {one: _boxes(one, match, regions, image.size) for one, match in matches.items()}
    todo = [one for one, found in boxes.items() if not found]
    if not todo:
        return Located(tuple(box for one in statements for box in boxes[one]))
    cut = cut_lines(image)
    read: list[_Line] = []
    errors: list[Exception] = []
    while len(read) + len(errors) < min(len(cut), MOST_LINES):
        start = len(read) + len(errors)
        some = cut[start : min(start + _AT_ONCE, MOST_LINES)]
        replies = yield Batch(
            [Ask(show_line(line.image), READ, max_tiles=1).messages for line in some],
            {"max_tokens": _MOST_TOKENS},
        )
        for line, reply in zip(some, replies, strict=True):
            if isinstance(reply, Exception):
                errors.append(reply)
            else:
                read.append(_Line(line.box, finished(Attempt.of(reply)).text))
        matches |= {one: _match(one, read) for one in todo}
        if all((match := matches[one]) is not None and match.score >= _SURE for one in todo):
            break
    boxes |= {one: _boxes(one, matches[one], read, image.size) for one in todo}
    unlocated = [
        f"{one!r}: {_why_not(len(read), len(cut), errors)}" for one in todo if not boxes[one]
    ]
    return Located(tuple(box for one in statements for box in boxes[one]), tuple(unlocated))


@dataclass(frozen=True)
class _Line:
    """A line, or a region, and its text; edges in pixels of the page."""

    box: Edges
    text: str


def _match(statement: str, lines: Sequence[_Line]) -> Match | None:
    texts = [line.text for line in lines]
    return match_lines(statement, texts, in_rows([line.box for line in lines]))


def _boxes(
    statement: str, match: Match | None, lines: Sequence[_Line], size: tuple[int, int]
) -> list[Box]:
    """Boxes around matched lines; lines that follow each other have one."""
    joined: list[Edges] = []
    for index in () if match is None else match.lines:
        box = lines[index].box
        if joined and _follows(joined[-1], box):
            last = joined[-1]
            box = (
                min(last[0], box[0]), min(last[1], box[1]),
                max(last[2], box[2]), max(last[3], box[3]),
            )  # fmt: skip
            joined[-1] = box
        else:
            joined.append(box)
    label = statement[:_LONGEST]
    return [Box.from_space(box, "pixel", size, label) for box in joined]


def _follows(one: Edges, other: Edges) -> bool:
    """Whether a box is in the same row as another, or directly below it."""
    if is_level(one, other):
        return True
    is_below = other[1] - one[3] <= 1.5 * (other[3] - other[1]) and other[1] > one[1]
    return is_below and min(one[2], other[2]) > max(one[0], other[0])


def _regions(metadata: Mapping[str, Any], size: tuple[int, int]) -> list[_Line]:
    """The regions that a layout model named, in pixels of the page before it was levelled."""
    angle = float(metadata.get("skew") or 0.0)
    width, height = levelled_size(size, angle)
    regions = []
    for one in metadata.get("elements") or ():
        left, top, right, bottom = one["box"]
        box = left * width / 1000, top * height / 1000, right * width / 1000, bottom * height / 1000
        x1, y1, x2, y2 = map(round, unlevel(box, size, angle))
        text = " ".join(filter(None, (one.get("label"), one.get("brief"))))
        regions.append(_Line((x1, y1, x2, y2), text))
    return regions


def _why_not(read: int, cut: int, errors: Sequence[Exception]) -> str:
    """Why a statement was not found."""
    if not cut:
        return "the page has no lines of text"
    reasons = [f"none of the {read} lines that were read says it"] if read else []
    if errors:
        reasons.append(f"{len(errors)} of {cut} lines could not be read ({errors[0]})")
    if cut > MOST_LINES:
        reasons.append(f"of {cut} lines the first {MOST_LINES} are read")
    return "; ".join(reasons)
