"""Locate objects on an image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field, field_validator

from langchain_internvl.grounding import Box, boxes_to_supervision, draw_boxes, parse_grounding
from langchain_internvl.grounding.fonts import open_font
from langchain_internvl.tools.answers import answer_of
from langchain_internvl.tools.arguments import IMAGE, REGION
from langchain_internvl.tools.base import Arguments, Ask, InternVLTool, Outcome, Script
from langchain_internvl.tools.images import ToolImage
from langchain_internvl.tools.pages import open_one_image
from langchain_internvl.tools.task_prompts import ask_for_boxes


class Place(BaseModel):
    """Location of an object on an image.

    Attributes:
        image: The image, as given by the agent.
        phrase: Name or description of the object.
        boxes: Its boxes on the whole image as stored in the file (before EXIF rotation, scaling
            and cropping): in thousandths, and in `pixels`. Empty: not found.
        rejected: Parts of the reply that are not valid boxes, each with the reason.
        reply: Reply of the model.
        is_complete: Whether the model ended the reply, rather than the limit of tokens or a
            server (its content filter, its detection of repetitions).
        region: The part that was searched; None: the whole image.
        page: Page number in a PDF or TIFF, from 1; None: an image.
    """

    image: str
    phrase: str
    boxes: list[Box]
    rejected: list[str] = []
    reply: str = ""
    is_complete: bool = True
    region: Box | None = None
    page: int | None = None

    def to_supervision(self) -> Any:
        """The boxes as `Detections` of the package supervision; see `boxes_to_supervision`.

        Raises:
            ImportError: supervision is not installed.
        """
        return boxes_to_supervision(self.boxes)


class GroundArguments(Arguments):
    """Arguments of `ground`."""

    image: str = Field(description=IMAGE)
    phrase: str = Field(
        min_length=1,
        description="What to find, in a few words that tell it apart: 'the red car on the left'.",
    )
    region: str | None = Field(default=None, description=REGION)

    @field_validator("phrase")
    @classmethod
    def _names_something(cls, phrase: str) -> str:
        """Models invent a box for nothing."""
        if not _plain(phrase).strip():
            raise ValueError("is blank; name what to find")
        return phrase


class GroundTool(InternVLTool):
    """Locates objects on an image; the artifact is a `Place`.

    Attributes:
        font: A font file for the labels on returned images; see `draw_boxes`.
    """

    font: str | None = None
    name: str = "ground"
    description: str = (
        "Find where something is on a picture. Returns a box for each place: left, top, right, "
        "bottom in thousandths of the picture, which other tools take as region, and in pixels."
    )
    args_schema: Any = GroundArguments

    @field_validator("font")
    @classmethod
    def _font_opens(cls, font: str | None) -> str | None:
        """Check the font at construction: a wrong path is a programming error, not a tool error."""
        if font is not None:
            try:
                open_font(font)
            except OSError as error:
                raise ValueError(str(error)) from error
        return font

    def script(self, state: Any, given: GroundArguments) -> Script:
        """Open the image, and ask for boxes."""
        picture, page = open_one_image(given.image, self.opening, state, given.region)
        question = ask_for_boxes(_plain(given.phrase))
        blocks = [picture.block, {"type": "text", "text": question}]
        reply = yield Ask(blocks, {"logprobs": True})
        shown, rejected = boxes_of(reply, picture)
        artifact = Place(
            image=given.image,
            phrase=given.phrase,
            boxes=[picture.to_file(box) for box in shown],
            rejected=rejected,
            reply=reply.text,
            is_complete=answer_of(reply).is_complete,
            region=picture.region,
            page=page,
        )
        said = _said(artifact) + picture.notes
        return Outcome(said, artifact, lambda: draw_boxes(picture.pixels, shown, font=self.font))


def _plain(phrase: str) -> str:
    """An agent's phrase without markup, which would end it early."""
    return phrase.replace("<", " ").replace(">", " ")


def boxes_of(reply: AIMessage, picture: ToolImage) -> tuple[list[Box], list[str]]:
    """The boxes of a reply in coordinates of the prompt's image, and its invalid boxes.

    The confidence of a box is the mean probability of the tokens of its digits.
    """
    tokens: Sequence[Mapping[str, Any]] = (reply.response_metadata.get("logprobs") or {}).get(
        "content", []
    )
    # Counted in bytes: a character may span several tokens.
    pieces = [bytes(token.get("bytes") or token["token"].encode()) for token in tokens]
    written = b"".join(pieces).decode("utf-8", "replace")
    if written.strip() != reply.text.strip():
        grounding = parse_grounding(reply.text, picture.pixels.size)
    else:
        sure = [
            (len(piece), math.exp(token["logprob"]))
            for piece, token in zip(pieces, tokens, strict=True)
        ]
        grounding = parse_grounding(
            written,
            picture.pixels.size,
            confidence=lambda start, end: _probability(written, start, end, sure),
        )
    return list(grounding.boxes), list(grounding.rejected)


def _probability(
    text: str, start: int, end: int, tokens: Sequence[tuple[int, float]]
) -> float | None:
    """Mean probability of the tokens with digits in a part of a text; None: there are none.

    Args:
        text: The text.
        start: Start of the part, in characters.
        end: End of the part, in characters.
        tokens: Length in bytes and probability of each token.
    """
    data = text.encode()
    first, last = len(text[:start].encode()), len(text[:end].encode())
    found = []
    place = 0
    for length, sure in tokens:
        here = data[max(first, place) : max(first, min(last, place + length))]
        if any(byte in b"0123456789" for byte in here):
            found.append(sure)
        place += length
    return sum(found) / len(found) if found else None


def _said(place: Place) -> str:
    if not place.boxes:
        reasons = f" ({'; '.join(place.rejected)})" if place.rejected else ""
        return (
            f"{place.phrase!r} was not found{reasons}. Name it in other words, or look at the "
            "picture with describe_image first."
        )
    lines = []
    for box in place.boxes:
        sure = "" if box.confidence is None else f", confidence {box.confidence:.2f}"
        mended = f" ({'; '.join(box.repairs)})" if box.repairs else ""
        lines.append(
            f"{box.label or place.phrase}: region {', '.join(map(str, box.thousandths))}; "
            f"pixels {', '.join(map(str, box.pixels or ()))}{sure}{mended}"
        )
    lines += [f"Not a box: {reason}" for reason in place.rejected]
    if not place.is_complete:
        lines.append("(The answer was cut off here; there may be more.)")
    return "\n".join(lines)
