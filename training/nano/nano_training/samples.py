"""One picture or video and what can be asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from nano_training.things import Box, Letter, Thing

Job = Literal["describe", "read", "ground", "ask"]

MOST_TILES = 6
"""Most tiles of a picture, thumbnail not counted; also the embedded model's setting."""


@dataclass(frozen=True)
class Asked:
    """A word that a question asks for, in the question's text.

    Attributes:
        word: Place of its first character where it is asked for.
        said: The same where the pages say it.
        line: The same of the line that says it.
        length: Its characters.
    """

    word: int
    said: int
    line: int
    length: int


@dataclass(frozen=True)
class About:
    """What a part of an answer is about.

    Attributes:
        colour: Colour of the thing; None: any.
        kind: Its kind; None: any but signs.
        picture: Number of the picture that it is on, from 0; None: any.
        letters: The letters that it is about; empty: it is about a thing, or copied.
        copied: Where in the question's text it is copied from: the first character's place.
        asked: Where the word that is asked for stands in the question's text.
        begin: First character of the part.
        end: Character after the last; None: it goes on to the end, and so does the end's token.
    """

    colour: str | None = None
    kind: str | None = None
    picture: int | None = None
    letters: tuple[Letter, ...] = ()
    copied: int | None = None
    asked: Asked | None = None
    begin: int = 0
    end: int | None = None


@dataclass(frozen=True)
class Question:
    """A question and its true answer.

    Attributes:
        job: What kind of question it is; figures are given for each.
        text: The question.
        answer: What a perfect model replies.
        about: What the answer, or each part of it, is about, as far as that is one thing or line
            of text; a part that is not the whole answer has no control tokens before or in it.
        written: The answer as it is seen while it goes on, which may have wrong letters (as many as
            the answer has): what is learnt is still the answer. None: the answer.
    """

    job: Job
    text: str
    answer: str
    about: tuple[About, ...] = ()
    written: str | None = None


@dataclass(frozen=True)
class Sample:
    """Pictures and questions about them.

    Attributes:
        pictures: RGB pictures; of a video its frames.
        questions: Independent questions, or those of a chat.
        is_video: Whether the pictures are frames.
        is_chat: Whether each question follows on the answers before it.
        system: System text; None: no system turn.
        things: What is on each picture; empty: nothing is said of it.
        letters: What is written on each picture and where; empty: nothing is said of it.
        view: The part of a tile that the picture is; None: it is whole.
        size: Width and height of that tile; None: the picture's own.
        most_tiles: Most tiles of a picture, thumbnail not counted.
        is_numbered: Whether each picture has its number before it, as `answer_with_citations` shows
            pages.
    """

    pictures: Sequence[Image.Image]
    questions: Sequence[Question]
    is_video: bool = False
    is_chat: bool = False
    system: str | None = None
    things: Sequence[Sequence[Thing]] = ()
    letters: Sequence[Sequence[Letter]] = ()
    view: Box | None = None
    size: tuple[int, int] | None = None
    most_tiles: int = MOST_TILES
    is_numbered: bool = False
