"""Requests about a page, the model's replies, and the resulting page text."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from langchain_internvl.documents.elements import Element
from langchain_internvl.errors import RequestError
from langchain_internvl.reply_text.finish_reasons import FILTERED, REPEATED, is_cut_off
from langchain_internvl.tools.repetition import Problem, check_transcription, cut_repetition
from langchain_internvl.tools.task_prompts import READ

Way = Literal["model", "text_layer", "fallback", "blank"]
"""Origin of a text. "model": read by the model; "text_layer": the PDF's text layer; "fallback":
the text layer, because the model failed; "blank": the page is empty."""

MARKDOWN = (
    "Convert this page to Markdown. Write tables as HTML (<table>, <tr>, <td>), formulas as LaTeX. "
    "Answer with the Markdown only."
)
"""Prompt for a page as Markdown, with its headings, lists and tables."""

TEMPERATURES = (0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.0)
"""Temperatures of the attempts after a repetition loop; the seed of each is its number. A
repetition penalty would break tables, whose cells repeat legitimately."""


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a page.

    Attributes:
        prompt: The prompt for each page; None: the prompt of `output`.
        output: "text", or "markdown" with tables in HTML.
        max_tokens: Most tokens of the first attempt; None: the chat model's own limit.
        temperatures: Temperatures of the attempts after a repetition loop.
        rotation: "auto": other orientations are tried where a page reads badly; "always": the
            model reports the orientation first; "never": pages are read as they are.
        deskew: Rotate pages whose lines are skewed by up to 8 degrees, so that lines are level.
        skip_blank: Send no request for blank pages.
        max_tiles: Most tiles of one request, the thumbnail not counted; a page that needs more is
            read in parts. None: the checkpoint's own limit, assumed to be 12.
        least_probability: Mean token probability, 0 to 1, below which a page reads badly.
        max_retries: Most replies for a page in addition to the first one of each part; then the
            best reading so far is taken. None: as many as the remedies need.
    """

    prompt: str | None = None
    output: Literal["text", "markdown"] = "text"
    max_tokens: int | None = None
    temperatures: tuple[float, ...] = TEMPERATURES
    rotation: Literal["auto", "always", "never"] = "auto"
    deskew: bool = True
    skip_blank: bool = True
    max_tiles: int | None = None
    least_probability: float = 0.9
    max_retries: int | None = 16

    def __post_init__(self) -> None:
        for name, allowed in (
            ("output", ("text", "markdown")),
            ("rotation", ("auto", "always", "never")),
        ):
            if getattr(self, name) not in allowed:
                given = getattr(self, name)
                raise RequestError(f"{name} is one of {', '.join(allowed)}, not {given!r}")
        for name, least in (("max_tiles", 1), ("max_tokens", 1), ("max_retries", 0)):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise RequestError(f"{name} is a whole number from {least}, not {value!r}")

    def for_model(self, llm: BaseChatModel) -> ReadOptions:
        """These options with the model's own `max_tiles` where they name none."""
        if self.max_tiles is not None:
            return self
        return replace(self, max_tiles=getattr(llm, "max_tiles", None))

    @property
    def budget(self) -> int:
        """Most tiles of one part of a page."""
        return self.max_tiles or 12

    @property
    def question(self) -> str:
        """The prompt for each page."""
        return self.prompt or (MARKDOWN if self.output == "markdown" else READ)


@dataclass(frozen=True)
class Ask:
    """A request about an image.

    Attributes:
        image: The image, in mode RGB.
        question: The text after the image.
        settings: Settings of the call.
        max_tiles: Most tiles of the image; None: the checkpoint's own limit.
        is_retry: Whether this is a remedy for an earlier reply, and counts for `max_retries`.
    """

    image: Image.Image
    question: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_tiles: int | None = None
    is_retry: bool = False

    @property
    def messages(self) -> list[HumanMessage]:
        """The request as one message: the image, then the text."""
        image: dict[str, Any] = {"type": "image", "image": self.image}
        if self.max_tiles is not None:
            image["max_tiles"] = self.max_tiles
        return [HumanMessage([image, {"type": "text", "text": self.question}])]


@dataclass(frozen=True)
class Attempt:
    """A reply to a request about a page.

    Attributes:
        text: Text of the reply, without thoughts.
        thoughts: Thoughts of the reply; layout models write boxes there.
        finish_reason: "stop", "length" if the reply reached its token limit, or another reason as a
            server reports it.
        probability: Mean probability of the tokens, from 0 to 1; None: not reported.
        choices: Probabilities of the request's choices; empty without choices.
        model: Name of the model.
    """

    text: str
    thoughts: str = ""
    finish_reason: str = "stop"
    probability: float | None = None
    choices: Mapping[str, float] = field(default_factory=dict)
    model: str | None = None

    @classmethod
    def of(cls, reply: AIMessage) -> Attempt:
        """The attempt of a chat model's reply."""
        metadata = reply.response_metadata
        content = (metadata.get("logprobs") or {}).get("content") or ()
        weights = [one["logprob"] for one in content if one.get("logprob") is not None]
        thoughts = [
            str(block.get("reasoning", ""))
            for block in reply.content_blocks
            if block["type"] == "reasoning"
        ]
        return cls(
            reply.text.strip(),
            "\n".join(thoughts),
            str(metadata.get("finish_reason") or "stop"),
            math.fsum(map(math.exp, weights)) / len(weights) if weights else None,
            metadata.get("choices") or {},
            metadata.get("model_name"),
        )

    @property
    def is_complete(self) -> bool:
        """Whether the reply ended by itself, as far as more tokens can help."""
        return self.finish_reason == FILTERED or not is_cut_off(self.finish_reason)

    @property
    def is_stuck(self) -> bool:
        """Whether the reply, or its thoughts, are a repetition loop up to its token limit.

        A server's detection of repetitions counts too: it may end shorter loops than are found
        here.
        """
        if self.finish_reason == REPEATED:
            return True
        text = self.text or self.thoughts
        return not self.is_complete and cut_repetition(text, is_complete=False) is not None

    @property
    def kept(self) -> str:
        """The text to keep, see `check_transcription`."""
        return check_transcription(self.text, self.finish_reason)[0]

    @property
    def problem(self) -> Problem | None:
        """Why the text may be incomplete; a loop of the thoughts counts as one of the text."""
        if self.is_stuck:
            return "repetition"
        return check_transcription(self.text, self.finish_reason)[1]


@dataclass(frozen=True)
class PageText:
    """The text of a page.

    Attributes:
        text: The text.
        way: Origin of the text.
        problem: Why the text may be incomplete or repetitive; None: no problem was found.
        attempts: Number of replies that were generated for the page.
        finish_reason: Finish reason of the last reply; None: there was no reply.
        probability: Mean token probability of the accepted replies, from 0 to 1.
        rotation: Degrees by which the page was turned clockwise to read it: 0, 90, 180 or 270.
        skew: Skew of the lines that was corrected, in degrees counter-clockwise.
        parts: Number of parts in which the page was read.
        elements: Regions of the page, as it was turned and levelled, in the model's order.
        model: Name of the model.
        error: Why the model failed to read the page, where the text is a fallback.
    """

    text: str
    way: Way = "model"
    problem: Problem | None = None
    attempts: int = 0
    finish_reason: str | None = None
    probability: float | None = None
    rotation: int = 0
    skew: float = 0.0
    parts: int = 1
    elements: tuple[Element, ...] = ()
    model: str | None = None
    error: str | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether every reply is a repetition loop until it was cut off."""
        return self.problem == "repetition" and self.finish_reason in ("length", REPEATED)


class RetriesSpent(RuntimeError):  # noqa: N818 - a signal to a script, not an error
    """Thrown into a script at a request for which `ReadOptions.max_retries` leaves no room."""


Script = Generator[Ask, Attempt, PageText]
"""Generator that reads a page: yields requests, receives replies, and returns the text."""
