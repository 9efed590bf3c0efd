"""Describe an image, or answer a question about it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, Field

from langchain_internvl.errors import MediaError
from langchain_internvl.grounding import Box
from langchain_internvl.tools.answers import answer_of, in_language
from langchain_internvl.tools.arguments import IMAGE, LANGUAGE, REGION
from langchain_internvl.tools.base import Arguments, Ask, InternVLTool, Outcome, Script
from langchain_internvl.tools.images import ToolImage
from langchain_internvl.tools.pages import ToolPage, left_out, open_images
from langchain_internvl.tools.task_prompts import DESCRIBE

_MOST_TILES = 24
"""Total number of tiles of the pages of a document: 10 pages with thumbnails have 7,680 tokens."""


class Description(BaseModel):
    """Description of an image, or answer to a question about it.

    Attributes:
        image: The image, as given by the agent.
        question: The question.
        text: The answer.
        region: The part in the prompt, in coordinates of the stored file; None: the whole image.
        is_complete: Whether the model ended the answer, rather than the limit of tokens or a
            server (its content filter, its detection of repetitions).
        num_pages: Number of pages of a PDF or TIFF in the prompt; None: an image.
    """

    image: str
    question: str
    text: str
    region: Box | None = None
    is_complete: bool = True
    num_pages: int | None = None


class DescribeArguments(Arguments):
    """Arguments of `describe_image`."""

    image: str = Field(description=IMAGE)
    question: str | None = Field(
        default=None, description="What to find out; without it the picture is described."
    )
    region: str | None = Field(default=None, description=REGION)
    language: str | None = Field(default=None, description=LANGUAGE)


class DescribeImageTool(InternVLTool):
    """Describes an image or answers a question about it; the artifact is a `Description`."""

    name: str = "describe_image"
    description: str = (
        "Look at a picture: describe it, or answer a question about what it shows (things, "
        "people, colours, numbers, charts). To copy out text use read_text, to find where "
        "something is use ground."
    )
    args_schema: Any = DescribeArguments

    def script(self, state: Any, given: DescribeArguments) -> Script:
        """Open the image, and ask the question."""
        blocks: list[dict[str, Any]] = []
        missing: list[str] = []
        page: ToolPage | None = None
        picture: ToolImage | None = None
        with closing(open_images(given.image, self.opening, state, given.region)) as images:
            for page in images:
                if isinstance(page.image, MediaError):
                    missing.append(f"\n(Page {page.number} cannot be shown: {page.image.reason}.)")
                    continue
                picture = page.image
                blocks.append(picture.block)
                if picture.damage is not None and page.total > 1:
                    missing.append(
                        f"\n(The file is damaged, and part of page {page.number} may be missing: "
                        f"{picture.damage}.)"
                    )
                    picture = replace(picture, damage=None)  # the notes are those of the last page
        if picture is None or page is None:
            raise MediaError(given.image, "none of its pages can be shown")
        text = in_language(given.question or DESCRIBE, given.language)
        if len(blocks) > 1:
            most = max(1, _MOST_TILES // len(blocks))
            own = getattr(self.llm, "max_tiles", None)
            blocks = [{**block, "max_tiles": min(most, own or most)} for block in blocks]
        reply = yield Ask([*blocks, {"type": "text", "text": text}])
        answer = answer_of(reply)
        artifact = Description(
            image=given.image,
            question=text,
            text=answer.text,
            region=picture.region,
            is_complete=answer.is_complete,
            num_pages=None if page.number is None else len(blocks),
        )
        notes = picture.notes + "".join(missing) + left_out(page, given.image)
        return Outcome(
            answer.for_agent + notes, artifact, picture.cut if len(blocks) == 1 else None
        )
