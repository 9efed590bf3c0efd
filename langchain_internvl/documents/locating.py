"""Locates cited statements on the image of their page, by a box from the model or by reading.

Both are generators that yield requests and receive the replies, so that sync and async callers run
the same steps. A request that fails leaves out its own statement, or its own line, and is reported.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from langchain_internvl.documents.ladder import finished
from langchain_internvl.documents.line_crops import show_line
from langchain_internvl.documents.line_matching import Match, is_said, is_same_text, match_lines
from langchain_internvl.documents.reading import Ask, Attempt
from langchain_internvl.documents.reading_order import Edges, in_rows, is_level
from langchain_internvl.documents.skew import levelled_size, unlevel
from langchain_internvl.documents.text_lines import cut_lines
from langchain_internvl.grounding import Box, parse_grounding
from langchain_internvl.tools.task_prompts import READ, ask_for_boxes

Way = Literal["boxes", "reading"]
"""How statements are located: "boxes": the model is asked for their boxes; "reading": it reads the
page line by line, and the lines with a statement have its box."""

MOST_LINES = 200
"""Most lines of a page that are read, the first in reading order."""
_AT_ONCE = 32
"""Lines in one batch; after each, statements that are found need no further lines."""
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

    Returns:
        A generator that yields one `Batch`, a request for each statement, and returns their boxes,
        in coordinates of the page, and the statements for which the model named none.
    """
    questions = [ask_for_boxes(statement[:_LONGEST]) for statement in statements]
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
    """Reads the lines of the page until all statements are found word for word among them.

    A region in the metadata whose label or brief is the statement is taken without a request, and
    one whose label or brief has nearly its letters if no line says it.

    Args:
        image: The page, turned as `rotation` says, in mode RGB.
        statements: The statements.
        metadata: The page's metadata, of `InternVLLoader`.

    Returns:
        A generator that yields a `Batch` for each 32 lines, up to 200, and returns the boxes of
        the lines with the statements, in pixels of the page, and the statements that were not
        found. It ends early after a batch whose requests all failed.
    """
    regions = _regions(metadata, image.size)
    boxes = {one: _boxes(one, _same_region(one, regions), regions, image.size)
             for one in statements}  # fmt: skip
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
        if all(isinstance(reply, Exception) for reply in replies):
            break
        texts, rows = _texts(read)
        if all(is_said(one, texts, rows) for one in todo):
            break
    texts, rows = _texts(read)
    unlocated = []
    for one in todo:
        boxes[one] = _boxes(one, match_lines(one, texts, rows), read, image.size)
        if not boxes[one]:
            boxes[one] = _boxes(one, _similar_region(one, regions), regions, image.size)
        if not boxes[one]:
            unlocated.append(f"{one!r}: {_why_not(len(read), len(cut), errors)}")
    return Located(tuple(box for one in statements for box in boxes[one]), tuple(unlocated))


@dataclass(frozen=True)
class _Line:
    """A line, or a region, and its text; edges in pixels of the page."""

    box: Edges
    text: str


def _texts(lines: Sequence[_Line]) -> tuple[list[str], Sequence[int]]:
    """The texts of lines, and their order in rows of the page."""
    return [line.text for line in lines], in_rows([line.box for line in lines])


def _same_region(statement: str, regions: Sequence[_Line]) -> Match | None:
    """The first region whose text is the statement."""
    for index, region in enumerate(regions):
        if is_same_text(statement, region.text):
            return Match((index,), 1.0)
    return None


def _similar_region(statement: str, regions: Sequence[_Line]) -> Match | None:
    """The region whose text has nearly the statement's letters."""
    best: Match | None = None
    for index, region in enumerate(regions):
        found = match_lines(statement, [region.text], by_words=False)
        if found is not None and (best is None or found.score > best.score):
            best = Match((index,), found.score)
    return best


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
    """The labels and briefs of the layout model's regions, in pixels of the page as it was."""
    angle = _number(metadata.get("skew")) or 0.0
    width, height = levelled_size(size, angle)
    regions: list[_Line] = []
    elements = metadata.get("elements")
    # A vector store may have flattened the metadata, and others may have written them.
    for one in elements if isinstance(elements, Sequence) else ():
        edges = one.get("box") if isinstance(one, Mapping) else None
        edges = [_number(edge) for edge in edges] if isinstance(edges, list | tuple) else []
        if len(edges) != 4 or None in edges:
            continue
        left, top, right, bottom = (edge or 0.0 for edge in edges)
        box = left * width / 1000, top * height / 1000, right * width / 1000, bottom * height / 1000
        x1, y1, x2, y2 = map(round, unlevel(box, size, angle))
        texts = (one.get("label"), one.get("brief"))
        regions += [_Line((x1, y1, x2, y2), text) for text in texts if isinstance(text, str)]
    return regions


def _number(value: Any) -> float | None:
    """A finite number; None: the value is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


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
