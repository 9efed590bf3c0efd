"""One picture or video and what can be asked about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from nano_training.things import Box, Letter, Thing

Job = Literal["describe", "read", "ground", "ask"]


@dataclass(frozen=True)
class Question:
    """A question and its true answer.

    Attributes:
        job: What kind of question it is; figures are given for each.
        text: The question.
        answer: What a perfect model replies.
        about: Colour and kind of the thing that the answer is about, as far as the question says;
            None: it is about more, or about nothing.
    """

    job: Job
    text: str
    answer: str
    about: tuple[str | None, str | None] | None = None


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
