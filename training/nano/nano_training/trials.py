"""The held-out pictures that figures are of."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image

from langchain_internvl.tools.task_prompts import DESCRIBE, GROUND, READ, WATCH
from nano_training import answers, words
from nano_training.answers import ask_pages, document_line, draw_pages
from nano_training.fonts import new_fonts
from nano_training.held_out import held_out
from nano_training.lists import GRIDS as LIST_GRIDS
from nano_training.lists import (
    LINES,
    MOST_TILES,
    NO_TEXT,
    NOTHING,
    SIZES,
    Line,
    draw_blank,
    draw_list,
    found,
)
from nano_training.pages import Print, draw_page
from nano_training.scenes import (
    NUMBERS,
    describe,
    draw_scene,
    ground_answer,
    seen,
    sentence,
)
from nano_training.sizes import TILE
from nano_training.things import Thing
from nano_training.videos import any_acted, draw_video, video_questions


@dataclass(frozen=True)
class Trial:
    """A question that was never asked in training.

    Attributes:
        pictures: The picture, or the frames.
        question: The question.
        truth: The answer.
        is_video: Whether the pictures are frames.
        most_tiles: Most tiles of a picture; None: the model's own.
        is_numbered: Whether each picture has its number before it.
    """

    pictures: tuple[Image.Image, ...]
    question: str
    truth: str
    is_video: bool = False
    most_tiles: int | None = None
    is_numbered: bool = False


def _print(lines: tuple[int, int], *, one_font: bool) -> Print:
    return Print(lines, (22, 48), words.new_line, new_fonts(), one_font=one_font)


def few_lines(rng: random.Random) -> Trial:
    """One to four lines in one tile."""
    picture, text, _ = draw_page(rng, TILE, TILE, _print((1, 4), one_font=False))
    return Trial((picture,), READ, text)


GRIDS = ((2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (3, 2), (2, 3))


def page(rng: random.Random) -> Trial:
    """A page of two to six tiles."""
    columns, rows = rng.choice(GRIDS)
    style = _print((2, 4 + 3 * rows), one_font=True)
    picture, text, _ = draw_page(rng, columns * TILE, rows * TILE, style)
    return Trial((picture,), READ, text)


def _new_scene(rng: random.Random) -> tuple[Image.Image, list[Thing], Thing]:
    """A scene in which something stands where training never put it."""
    while True:
        picture, things = draw_scene(rng, TILE, TILE, lambda _: True)
        for thing in things:
            is_shape = thing.shape != "sign"
            if is_shape and not seen((thing.colour, thing.shape, thing.cell(TILE, TILE))):
                return picture, things, thing


def ground(rng: random.Random) -> Trial:
    """Where a shape is."""
    picture, _, thing = _new_scene(rng)
    question = GROUND.format(thing.name)
    return Trial((picture,), question, ground_answer(thing.name, [thing], TILE, TILE))


def scene(rng: random.Random) -> Trial:
    """What is on a picture."""
    picture, things, _ = _new_scene(rng)
    return Trial((picture,), DESCRIBE, describe(things))


def ask(rng: random.Random) -> Trial:
    """A question about colour or number."""
    while True:
        picture, things, thing = _new_scene(rng)
        shapes = [one for one in things if one.shape != "sign"]
        if rng.random() < 0.5:
            return Trial((picture,), "How many shapes are there?", sentence(NUMBERS[len(shapes)]))
        if sum(one.shape == thing.shape for one in shapes) == 1:
            return Trial((picture,), f"What color is the {thing.shape}?", sentence(thing.colour))


def video(rng: random.Random) -> Trial:
    """What a shape does, in eight frames."""
    acted = any_acted(rng, new=True)
    frames, _ = draw_video(rng, acted, 8)
    return Trial(tuple(frames), WATCH, video_questions(rng, acted)[0].answer, is_video=True)


def _new_list(rng: random.Random) -> tuple[Image.Image, list[Line]]:
    columns, rows = rng.choice(LIST_GRIDS)
    style = Print(LINES, SIZES, words.new_line, new_fonts())
    return draw_list(rng, columns * TILE, rows * TILE, style)


def short_lines(rng: random.Random) -> Trial:
    """A page of short lines on six to twelve tiles."""
    picture, lines = _new_list(rng)
    text = "\n".join(line.text for line in lines)
    return Trial((picture,), READ, text, most_tiles=MOST_TILES)


def find_line(rng: random.Random) -> Trial:
    """Where a line of such a page is."""
    picture, lines = _new_list(rng)
    line = rng.choice(lines)
    truth = found(line, *picture.size)
    return Trial((picture,), GROUND.format(line.text), truth, most_tiles=MOST_TILES)


def place_line(rng: random.Random) -> Trial:
    """Where a line of a page of one tile is."""
    picture, lines = draw_list(rng, TILE, TILE, _print((1, 6), one_font=False))
    line = rng.choice(lines)
    return Trial((picture,), GROUND.format(line.text), found(line, TILE, TILE))


def _new_document_line(rng: random.Random) -> str:
    return document_line(rng, words.new_words())


def cited(rng: random.Random) -> Trial:
    """A question that a line of one or two pages answers."""
    style = Print(answers.LINES, answers.SIZES, _new_document_line, new_fonts(), one_font=True)
    pictures, texts, _ = draw_pages(rng, style, rng.choice((1, 2)))
    asked = ask_pages(rng, texts)
    return Trial(tuple(pictures), asked.text, asked.answer, is_numbered=True)


def blank(rng: random.Random) -> Trial:
    """A picture of nothing."""
    question, truth = rng.choice(((READ, NO_TEXT), (DESCRIBE, NOTHING)))
    return Trial((draw_blank(rng),), question, truth)


TRIALS: Mapping[str, Callable[[random.Random], Trial]] = MappingProxyType(
    {
        "few lines": few_lines,
        "page": page,
        "ground": ground,
        "describe": scene,
        "ask": ask,
        "video": video,
        "short lines": short_lines,
        "find line": find_line,
        "place line": place_line,
        "cited": cited,
        "blank": blank,
    }
)

LOCATING = ("ground", "place line", "find line")
"""Jobs whose answer is a box."""

SEED = 2040
"""Of the pictures that figures are of; no choice between weights may use them."""


def draw_trials(name: str, count: int, seed: int = SEED) -> list[Trial]:
    """The trials of a job; always the same."""
    held_out()  # that the list is the one of training
    return [TRIALS[name](random.Random(f"{seed}/{name}/{number}")) for number in range(count)]
