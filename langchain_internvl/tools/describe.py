"""Describe a picture, or answer a question about it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from langchain_internvl.grounding import Box
from langchain_internvl.tools.answers import answer_of, in_language
from langchain_internvl.tools.arguments import IMAGE, LANGUAGE, REGION
from langchain_internvl.tools.base import Arguments, Ask, InternVLTool, Outcome, Script
from langchain_internvl.tools.images import open_image
from langchain_internvl.tools.media_access import resolve_image
from langchain_internvl.tools.task_prompts import DESCRIBE


class Description(BaseModel):
    """What was said about a picture.

    Attributes:
        image: The picture, as it was named.
        question: What was asked.
        text: The answer.
        region: The part that was looked at, on the picture as its file stores it; None: all.
        is_complete: Whether the answer ended by itself, not at the limit of its length.
    """

    image: str
    question: str
    text: str
    region: Box | None = None
    is_complete: bool = True


class DescribeArguments(Arguments):
    """Arguments of `describe_image`."""

    image: str = Field(description=IMAGE)
    question: str | None = Field(
        default=None, description="What to find out; without it the picture is described."
    )
    region: str | None = Field(default=None, description=REGION)
    language: str | None = Field(default=None, description=LANGUAGE)


class DescribeImageTool(InternVLTool):
    """Describes a picture or answers a question about it; the artifact is a `Description`."""

    name: str = "describe_image"
    description: str = (
        "Look at a picture: describe it, or answer a question about what it shows (things, "
        "people, colours, numbers, charts). To copy out text use read_text, to find where "
        "something is use ground."
    )
    args_schema: Any = DescribeArguments

    def script(self, state: Any, given: DescribeArguments) -> Script:
        """Look, and ask."""
        source = resolve_image(given.image, self.media_policy, state)
        picture = open_image(source, self.media_policy, given.region)
        text = in_language(given.question or DESCRIBE, given.language)
        reply = yield Ask([picture.block, {"type": "text", "text": text}])
        answer = answer_of(reply)
        artifact = Description(
            image=given.image,
            question=text,
            text=answer.text,
            region=picture.region,
            is_complete=answer.is_complete,
        )
        return Outcome(answer.for_agent + picture.notes, artifact, picture.cut)
