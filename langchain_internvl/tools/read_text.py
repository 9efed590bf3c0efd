"""Read the text on an image or on pages of a PDF (OCR)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, Field

from langchain_internvl.errors import MediaError
from langchain_internvl.grounding import Box
from langchain_internvl.reply_text.finish_reasons import FILTERED
from langchain_internvl.tools.answers import Answer, answer_of
from langchain_internvl.tools.arguments import IMAGE, REGION
from langchain_internvl.tools.base import Arguments, Ask, InternVLTool, Outcome, Script
from langchain_internvl.tools.images import ToolImage
from langchain_internvl.tools.pages import ToolPage, left_out, open_images
from langchain_internvl.tools.repetition import Problem, check_transcription
from langchain_internvl.tools.task_prompts import READ


class PageText(BaseModel):
    """The text on one page of a PDF or TIFF.

    Attributes:
        number: Page number, from 1.
        text: As in `Reading`.
        problem: As in `Reading`.
        error: Why the page could not be rendered; None: it was read.
    """

    number: int
    text: str = ""
    problem: Problem | None = None
    error: str | None = None


class Reading(BaseModel):
    """The text on an image, or on pages of a document.

    Attributes:
        image: The image or document, as given by the agent.
        text: The text, with an empty line between pages. If the reply reached its limit, or a
            server ended it, in a repetition loop, the text ends after the first repetition;
            complete replies are kept whole.
        lines: Lines of the text.
        problem: "length": the reply reached its limit of tokens, so text may be missing.
            "repetition": the text ends in many repetitions of the same words: equal rows of a
            table, or a loop (see `is_complete`), or a server ended it for repetitions.
            "content_filter": a server's content filter cut the reply off. None: no problem.
        is_complete: Whether the model ended the reply, rather than the limit of tokens or a server.
        reply: Reply of the model with all repetitions; replies for several pages are joined.
        region: The part that was read, in coordinates of the stored file; None: the whole image.
        pages: Text of each page of a PDF or TIFF; a page that failed does not stop the others.
        total_pages: Number of pages of the PDF or TIFF; None: an image.
    """

    image: str
    text: str
    lines: list[str]
    problem: Problem | None = None
    is_complete: bool = True
    reply: str = ""
    region: Box | None = None
    pages: list[PageText] = []
    total_pages: int | None = None


_SAID: dict[tuple[Problem, bool], str] = {
    ("length", False): "(There is more text: reading stopped at the limit of length. "
    "Read the rest with region, for instance '0, 500, 1000, 1000'.)",
    ("repetition", False): "(The rest was not read: the model began to repeat itself. "
    "Read it in smaller parts, with region.)",
    ("repetition", True): "(The text ends in the same words many times over. If these are not "
    "rows of a table, read the end again with region, for instance '0, 500, 1000, 1000'.)",
    (FILTERED, False): "(The rest was not read: the content filter of the model's server stopped "
    "the reply here. The same part read again is stopped again; other parts can be read with "
    "region.)",
}
"""Notes for the agent, by problem and by whether the reply is complete."""


class ReadArguments(Arguments):
    """Arguments of `read_text`."""

    image: str = Field(description=IMAGE)
    region: str | None = Field(default=None, description=REGION)
    language: str | None = Field(
        default=None, description="Language of the text, if it is known and uncommon."
    )


class ReadTextTool(InternVLTool):
    """Reads the text on an image or on PDF pages (OCR); the artifact is a `Reading`."""

    name: str = "read_text"
    description: str = (
        "Read the text on a picture (OCR): a scanned page, a sign, a label, a screen. Returns the "
        "text exactly as it stands there. For small text in a large picture give the region of it. "
        "Takes PDFs and TIFFs too, page by page."
    )
    args_schema: Any = ReadArguments

    def script(self, state: Any, given: ReadArguments) -> Script:
        """Open the images, and transcribe each."""
        question = f"{READ} The text is {given.language}." if given.language else READ
        parts: list[_Part] = []
        with closing(open_images(given.image, self.opening, state, given.region)) as images:
            for page in images:
                if isinstance(page.image, MediaError):
                    parts.append(_Part(page, error=page.image))
                else:
                    reply = yield Ask([page.image.block, {"type": "text", "text": question}])
                    parts.append(_Part(page, answer_of(reply)))
        return _outcome(given.image, parts)


@dataclass(frozen=True)
class _Part:
    """The transcription of one image."""

    page: ToolPage
    answer: Answer = field(default_factory=lambda: Answer(""))
    error: MediaError | None = None

    @property
    def image(self) -> ToolImage | None:
        return None if isinstance(self.page.image, MediaError) else self.page.image

    @property
    def transcription(self) -> tuple[str, Problem | None]:
        """The text, and its problem."""
        return check_transcription(self.answer.text, self.answer.cut_off)

    def said(self) -> str:
        """The text for the agent, with notes about problems."""
        if self.error is not None:
            return f"(This page cannot be shown: {self.error.reason}.)"
        text, problem = self.transcription
        notes = "" if self.image is None else self.image.notes
        if problem:
            return f"{text}\n{_SAID[problem, self.answer.is_complete]}{notes}"
        return (text or "(There is no text.)") + notes


def _outcome(name: str, parts: Sequence[_Part]) -> Outcome:
    first, last = parts[0].page, parts[-1].page
    if all(part.error for part in parts):
        raise MediaError(name, "none of its pages can be shown")
    texts = [part.transcription for part in parts]
    text = "\n\n".join(text for text, _ in texts)
    is_paged = first.number is not None
    artifact = Reading(
        image=name,
        text=text,
        lines=text.splitlines(),
        problem=next((problem for _, problem in texts if problem), None),
        is_complete=all(part.answer.is_complete for part in parts),
        reply="\n\n".join(part.answer.text for part in parts),
        region=next((part.image.region for part in parts if part.image), None),
        pages=[
            PageText(
                number=part.page.number,
                text=text,
                problem=problem,
                error=None if part.error is None else str(part.error),
            )
            for part, (text, problem) in zip(parts, texts, strict=True)
            if part.page.number is not None
        ],
        total_pages=first.total if is_paged else None,
    )
    if len(parts) == 1:
        image = parts[0].image
        said = parts[0].said() + left_out(last, name)
        return Outcome(said, artifact, None if image is None else image.cut)
    pages = [f"Page {part.page.number} of {part.page.total}:\n{part.said()}" for part in parts]
    return Outcome("\n\n".join(pages) + left_out(last, name), artifact)
