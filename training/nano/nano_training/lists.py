"""Pages of short lines, as bills and lists are: many small lines on many tiles."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from nano_training import fonts, prompts, words
from nano_training.pages import Print, colours, echoed, fit, letters_of
from nano_training.samples import About, Question, Sample
from nano_training.sizes import TILE
from nano_training.things import Box, Letter

GRIDS = ((2, 3), (3, 2), (2, 4), (4, 2), (3, 3), (3, 4), (4, 3))
"""Columns and rows of tiles."""

MOST_TILES = 12
"""Most tiles of a page, thumbnail not counted."""

LINES, SIZES = (8, 14), (20, 28)
"""Fewest and most lines, smallest and largest font in pixels."""


@dataclass(frozen=True)
class Line:
    """A line of a page.

    Attributes:
        text: What it says; no other line of the page says the same.
        box: Its ink.
        letters: Its letters.
    """

    text: str
    box: Box
    letters: tuple[Letter, ...]


def draw_list(
    rng: random.Random, width: int, height: int, style: Print
) -> tuple[Image.Image, list[Line]]:
    """A page of short lines below each other, in one font.

    Args:
        rng: Where chance comes from.
        width: In pixels.
        height: In pixels; lines that find no room are left out.
        style: How it is printed.
    """
    paper, ink = colours(rng)
    picture = Image.new("RGB", (width, height), paper)
    draw = ImageDraw.Draw(picture)
    font = fonts.any_font(rng, style.fonts or fonts.printed_fonts(), style.sizes)
    wanted = rng.randint(*style.lines)
    margin = rng.randint(8, width // 6)
    step = font.size * rng.uniform(1.3, max(1.4, min(4.0, height / (wanted + 2) / font.size)))
    top = rng.uniform(8, max(9.0, height - (wanted + 0.5) * step))
    lines: list[Line] = []
    while len(lines) < wanted and top + 1.4 * font.size < height:
        # A price or date stands apart now and then.
        left = margin if rng.random() < 0.85 else rng.randint(margin, width // 2)
        text = fit(style.writer(rng), font, width - left - 8)
        if text and all(text != line.text for line in lines):
            place = left, round(top)
            draw.text(place, text, fill=ink, font=font)
            letters = tuple(letters_of(text, font, *place))
            lines.append(Line(text, _ink(picture.size, place, text, font), letters))
            top += step
    return picture, lines


def _ink(size: tuple[int, int], place: tuple[int, int], text: str, font: fonts.Font) -> Box:
    """The box of a text's ink, to the pixel; its metrics add what is beside the letters."""
    alone = Image.new("L", size)
    ImageDraw.Draw(alone).text(place, text, fill=255, font=font)
    box = alone.getbbox()
    if box is None:
        raise ValueError(f"{text!r} has no ink")
    return box


def found(line: Line, width: int, height: int) -> str:
    """Where a line is, as InternVL writes it: integers 0-1000 of the whole page."""
    scale = (1000 / width, 1000 / height) * 2
    box = [round(side * by) for side, by in zip(line.box, scale, strict=True)]
    return f"<ref>{line.text}</ref><box>{[box]}</box>"


def list_sample(
    rng: random.Random,
    grids: Sequence[tuple[int, int]] = GRIDS,
    *,
    places: int = 2,
    style: Print | None = None,
) -> Sample:
    """A page of short lines: what it says, and where some of its lines are.

    Args:
        rng: Where chance comes from.
        grids: Columns and rows of tiles to choose from.
        places: How many lines are asked for.
        style: How it is printed; None: many small lines.
    """
    columns, rows = rng.choice(grids)
    width, height = columns * TILE, rows * TILE
    style = echoed(rng, style or Print(LINES, SIZES))
    picture, lines = draw_list(rng, width, height, style)
    text = "\n".join(line.text for line in lines)
    asked = [Question("read", prompts.read(rng), text, written=words.misread(rng, text))]
    for line in rng.sample(lines, min(places, len(lines))):
        question = prompts.ground(rng, line.text)
        about = (About(letters=line.letters),)
        asked.append(Question("ground", question, found(line, width, height), about))
    letters = [letter for line in lines for letter in line.letters]
    return Sample(
        [picture],
        asked,
        system=prompts.system(rng),
        letters=[letters],
        most_tiles=MOST_TILES,
    )


def draw_blank(rng: random.Random) -> Image.Image:
    """A picture of nothing, of any size and colour."""
    width, height = rng.choice(((TILE, TILE), (TILE, TILE), (2 * TILE, TILE), (300, 400)))
    ground = rng.choice((rng.randint(200, 255), rng.randint(0, 255)))
    spread = rng.choice((0, 0, 20))
    colour = (ground, max(0, ground - rng.randint(0, spread)), max(0, ground - spread // 2))
    return Image.new("RGB", (width, height), colour)


NO_TEXT, NOTHING = "no text", "nothing"
"""What is said of a picture of nothing: when asked to read it, and when asked what is there."""


def blank_sample(rng: random.Random) -> Sample:
    """A picture of nothing, and both questions."""
    asked = [
        Question("read", prompts.read(rng), NO_TEXT),
        Question("describe", prompts.describe(rng), NOTHING),
    ]
    return Sample([draw_blank(rng)], asked, system=prompts.system(rng))
