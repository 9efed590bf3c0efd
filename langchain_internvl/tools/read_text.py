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
"""Why the text may not be right: the reply reached its limit, or ends in a repetition loop."""


class Reading(BaseModel):
    """The text on a picture.

    Attributes:
        image: The picture, as it was named.
        text: The text. Of a reply that was cut off in a repetition loop, up to the end of the
            first turn; a reply that ended by itself is kept whole.
        lines: Its lines.
        problem: "length": there may be more on the picture, as the reply reached its limit.
            "repetition": the text ends in the same words many times over: equal rows of a table,
            or a loop (see `is_complete`). None: nothing of the kind.
        is_complete: Whether the reply ended by itself, not at the limit of its length.
        reply: What the model wrote, all turns of a loop included.
        region: The part that was read, on the picture as its file stores it; None: all.
    """

    image: str
    text: str
    lines: list[str]
    problem: Problem | None = None
    is_complete: bool = True
    reply: str = ""
    region: Box | None = None


_SAID: dict[tuple[Problem, bool], str] = {
    ("length", False): "(There is more text: reading stopped at the limit of length. "
    "Read the rest with region, for instance '0, 500, 1000, 1000'.)",
    ("repetition", False): "(The rest was not read: the model began to repeat itself. "
    "Read it in smaller parts, with region.)",
    ("repetition", True): "(The text ends in the same words many times over. If these are not "
    "rows of a table, read the end again with region, for instance '0, 500, 1000, 1000'.)",
}
"""What an agent is told, by the problem and whether the reply ended by itself."""


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
            is_complete=answer.is_complete,
            reply=answer.text,
            region=picture.region,
        )
        said = text or "(There is no text.)"
        if problem:
            said = f"{text}\n{_SAID[problem, answer.is_complete]}"
        return Outcome(said + picture.notes, artifact, picture.cut)


def whole_text(answer: Answer) -> tuple[str, Problem | None]:
    """The text that a reply read, and what may be wrong with it.

    A repetition loop is cut off where the reply reached its limit of length. A reply that ended by
    itself is kept whole, since a table may end in many equal rows; it is flagged all the same.
    """
    text = cut_repetition(answer.text, is_complete=answer.is_complete)
    if text is None:
        return answer.text, None if answer.is_complete else "length"
    return answer.text if answer.is_complete else text.rstrip(), "repetition"
