"""Cases of an evaluation: questions about images or videos, with the accepted answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from langchain_core.messages import HumanMessage
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from typing_extensions import Self

from langchain_internvl.errors import RequestError
from langchain_internvl.grounding import Box
from langchain_internvl.messages.media_blocks import image_block, video_block


class Case(BaseModel):
    """One question with its accepted answers.

    Attributes:
        id: Name of the case, unique in its file.
        question: The text of the question.
        images: Paths of its images, in order.
        video: Path of its video; None: there is none.
        answers: The accepted answers, as text.
        box: The right box (left, top, right, bottom in thousandths of the image, 0 to 1000).
        options: Texts of the options of a multiple-choice question, in the order of the letters.
        dataset: Name of the data set, where the score depends on it ("HME100k").
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    question: str = Field(min_length=1)
    images: tuple[Path, ...] = ()
    video: Path | None = None
    answers: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    options: tuple[str, ...] = ()
    dataset: str = ""

    @model_validator(mode="before")
    @classmethod
    def _read_singular(cls, values: Any) -> Any:
        """`image` and `answer` are accepted for one of each."""
        if not isinstance(values, dict):
            return values
        values = dict(values)
        for one, many in (("image", "images"), ("answer", "answers")):
            if one in values:
                if many in values:
                    raise ValueError(f"give {one} or {many}, not both")
                values[many] = [values.pop(one)]
        return values

    @model_validator(mode="after")
    def _needs_an_answer(self) -> Self:
        if not self.answers and self.box is None:
            raise ValueError("a case needs answers (or answer), or a box")
        if self.box is not None:
            Box.from_space(self.box, "norm1000")  # checks it
        if len(self.options) > len(ascii_uppercase):
            raise ValueError("a case has at most 26 options, A to Z")
        return self

    def message(self, *, max_tiles: int | None = None) -> HumanMessage:
        """The question as a message: images, then the video, then the text.

        Args:
            max_tiles: Most tiles of each image; None: the model's own setting.
        """
        limits = {} if max_tiles is None else {"max_tiles": max_tiles}
        blocks: list[Any] = [{**image_block(path), **limits} for path in self.images]
        if self.video is not None:
            blocks.append(video_block(self.video))
        return HumanMessage([*blocks, {"type": "text", "text": self._text}])

    @property
    def _text(self) -> str:
        if not self.options:
            return self.question
        lines = [f"{chr(ord('A') + place)}. {text}" for place, text in enumerate(self.options)]
        return "\n".join([self.question, *lines])


def read_cases(path: Path) -> Iterator[Case]:
    """The cases of a JSON Lines file, one object a line; relative paths are from its folder.

    Raises:
        RequestError: A line is not a valid case, or an id is used twice; the error names the line.
    """
    seen: set[str] = set()
    with path.open("rb") as file:
        for number, data in enumerate(file, 1):
            try:
                line = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise RequestError(f"{path}, line {number}: is not UTF-8: {error}") from error
            if not line.strip():
                continue
            try:
                case = Case.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                place = ".".join(map(str, first["loc"])) or "the line"
                raise RequestError(f"{path}, line {number}: {place}: {first['msg']}") from error
            if case.id in seen:
                raise RequestError(f"{path}, line {number}: the id {case.id!r} is used twice")
            seen.add(case.id)
            yield case.model_copy(
                update={
                    "images": tuple(path.parent / image for image in case.images),
                    "video": None if case.video is None else path.parent / case.video,
                }
            )
