"""Read the text on a picture (OCR)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from langchain_internvl.grounding import Box
from langchain_internvl.tools.answers import Answer, answer_of
from langchain_internvl.tools.arguments import IMAGE, REGION
from langchain_internvl.tools.base import Arguments, Ask, InternVLTool, Outcome, Script
from langchain_internvl.tools.images import open_image
from langchain_internvl.tools.media_access import resolve_image
from langchain_internvl.tools.repetition import cut_repetition
from langchain_internvl.tools.task_prompts import READ

Problem = Literal["length", "repetition"]
"""Why the text is not all there: the reply reached its limit, or ran in a circle."""


class Reading(BaseModel):
    """The text on a picture.

    Attributes:
        image: The picture, as it was named.
        text: The text; without what was repeated in a circle.
        lines: Its lines.
        problem: Why there may be more on the picture than this; None: this is all.
        reply: What the model wrote, circles included.
        region: The part that was read, on the picture as its file stores it; None: all.
    """

    image: str
    text: str
    lines: list[str]
    problem: Problem | None = None
    reply: str = ""
    region: Box | None = None


_SAID = {
    "length": "(There is more text: reading stopped at the limit of length. "
    "Read the rest with region, for instance '0, 500, 1000, 1000'.)",
    "repetition": "(The rest was not read: the model began to repeat itself. "
    "Read it in smaller parts, with region.)",
}


class ReadArguments(Arguments):
    """Arguments of `read_text`."""

    image: str = Field(description=IMAGE)
    region: str | None = Field(default=None, description=REGION)
    language: str | None = Field(
        default=None, description="Language of the text, if it is known and uncommon."
    )


class ReadTextTool(InternVLTool):
    """Reads the text on a picture; the artifact is a `Reading`."""

    name: str = "read_text"
    description: str = (
        "Read the text on a picture (OCR): a scanned page, a sign, a label, a screen. Returns the "
        "text exactly as it stands there. For small text in a large picture give the region of it."
    )
    args_schema: Any = ReadArguments

    def script(self, state: Any, given: ReadArguments) -> Script:
        """Look, and read."""
        source = resolve_image(given.image, self.media_policy, state)
        picture = open_image(source, self.media_policy, given.region)
        question = f"{READ} The text is {given.language}." if given.language else READ
        reply = yield Ask([picture.block, {"type": "text", "text": question}])
        answer = answer_of(reply)
        text, problem = whole_text(answer)
        artifact = Reading(
            image=given.image,
            text=text,
            lines=text.splitlines(),
            problem=problem,
            reply=answer.text,
            region=picture.region,
        )
        said = text or "(There is no text.)"
        if problem:
            said = f"{text}\n{_SAID[problem]}"
        return Outcome(said + picture.notes, artifact, picture.cut)


def whole_text(answer: Answer) -> tuple[str, Problem | None]:
    """The text that a reply read, up to where it began to repeat itself."""
    text = cut_repetition(answer.text, is_complete=answer.is_complete)
    if text is not None:
        return text.rstrip(), "repetition"
    return answer.text, None if answer.is_complete else "length"
