"""What is asked of a model about a page, what it answers, and what comes of it."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from langchain_core.messages import AIMessage, HumanMessage
from PIL import Image

from langchain_internvl.errors import RequestError
from langchain_internvl.grounding import Box
from langchain_internvl.tools.repetition import cut_repetition
from langchain_internvl.tools.task_prompts import READ

Problem = Literal["length", "repetition"]
"""Why a text may not be all there: a reply reached its limit, or repeats itself at its end."""

Way = Literal["model", "text_layer", "fallback", "blank"]
"""How a text came about: the model read it, it is the PDF's text layer, it is the text layer
because the model's reading failed, or the page is empty."""

MARKDOWN = (
    "Convert this page to Markdown. Write tables as HTML (<table>, <tr>, <td>), formulas as LaTeX. "
    "Answer with the Markdown only."
)
"""Asks for a page with its headings, lists and tables."""

TEMPERATURES = (0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 0.9, 1.0)
"""Temperatures of the attempts after a repetition loop, each with a seed of its own: its number.
A repetition penalty would break tables, whose cells do repeat."""


@dataclass(frozen=True)
class ReadOptions:
    """How a page is read.

    Attributes:
        prompt: The question about each page; None: by `output`.
        output: "text", or "markdown" with tables in HTML.
        max_tokens: Most tokens of the first attempt; None: the chat model's own.
        temperatures: Those of the attempts after a repetition loop.
        rotation: "auto": other orientations are tried where a page reads badly; "always": the
            model is asked for the orientation first; "never": pages are read as they are.
        deskew: Level lines that are up to 8 degrees askew.
        skip_blank: Do not ask about empty paper.
        max_tiles: Tiles of one request, the thumbnail not counted; a page that needs more is read
            in parts. None: the checkpoint's own limit, which is taken for 12.
        least_probability: Mean probability of the tokens below which a page reads badly.
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

    def __post_init__(self) -> None:
        for name, allowed in (
            ("output", ("text", "markdown")),
            ("rotation", ("auto", "always", "never")),
        ):
            if getattr(self, name) not in allowed:
                given = getattr(self, name)
                raise RequestError(f"{name} is one of {', '.join(allowed)}, not {given!r}")
        for name in ("max_tiles", "max_tokens"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise RequestError(f"{name} is a whole number from 1, not {value!r}")

    @property
    def budget(self) -> int:
        """Most tiles of one part of a page."""
        return self.max_tiles or 12

    @property
    def question(self) -> str:
        """The question about each page."""
        return self.prompt or (MARKDOWN if self.output == "markdown" else READ)


@dataclass(frozen=True)
class Ask:
    """A question about an image.

    Attributes:
        image: What is shown, in mode RGB.
        question: The text after it.
        settings: Settings of the call.
        max_tiles: Most tiles of the image; None: the checkpoint's own.
    """

    image: Image.Image
    question: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    max_tiles: int | None = None

    @property
    def messages(self) -> list[HumanMessage]:
        """The conversation."""
        image: dict[str, Any] = {"type": "image", "image": self.image}
        if self.max_tiles is not None:
            image["max_tiles"] = self.max_tiles
        return [HumanMessage([image, {"type": "text", "text": self.question}])]


@dataclass(frozen=True)
class Attempt:
    """A reply to a question about a page.

    Attributes:
        text: What it says, without thoughts.
        thoughts: Its thoughts; layout-giving models write boxes there.
        finish_reason: "stop", or "length" for its limit of tokens.
        probability: Mean probability of its tokens, from 0 to 1; None: not reported.
        choices: Probabilities of the choices, if it had some.
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
        """What a reply of a chat model says."""
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
        """Whether it ended by itself."""
        return self.finish_reason != "length"

    @property
    def loop(self) -> str | None:
        """The text up to the end of the first turn of a repetition loop; None: there is none."""
        return cut_repetition(self.text, is_complete=self.is_complete)

    @property
    def is_stuck(self) -> bool:
        """Whether it repeats itself up to its limit of tokens."""
        return not self.is_complete and self.loop is not None


@dataclass(frozen=True)
class PageText:
    """The text of a page.

    Attributes:
        text: The text.
        way: How it came about.
        problem: Why there may be more on the page, or less, than this; None: this is all.
        attempts: Replies that were generated for it.
        finish_reason: How the last reply ended; None: there was none.
        probability: Mean probability of the tokens of the replies that were kept, from 0 to 1.
        rotation: Degrees by which the page was turned clockwise to read it: 0, 90, 180 or 270.
        skew: Degrees by which its lines were levelled, counter-clockwise.
        parts: In how many parts it was read.
        elements: Regions of the page that the model named, in reading order.
        model: Name of the model.
        error: Why the model did not read it, where the text is from elsewhere.
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
    elements: tuple[Box, ...] = ()
    model: str | None = None
    error: str | None = None

    @property
    def is_stuck(self) -> bool:
        """Whether every reply repeated itself up to its limit of tokens."""
        return self.problem == "repetition" and self.finish_reason == "length"

    def after(self, attempts: int) -> PageText:
        """The same text, with attempts of other readings counted."""
        return replace(self, attempts=self.attempts + attempts)


Script = Generator[Ask, Attempt, PageText]
"""Reads a page: yields questions, is sent the answers, and returns the text."""
