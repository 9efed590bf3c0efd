"""Pictures of coloured shapes and signs."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from itertools import pairwise

from PIL import Image, ImageDraw

from nano_training import fonts, prompts, words
from nano_training.held_out import COLOURS, SHAPES, held_out
from nano_training.samples import About, Question, Sample
from nano_training.things import Box, Thing, with_article

GROUNDS = ((255, 255, 255), (205, 205, 205), (225, 235, 245), (120, 140, 120), (240, 225, 200))
_ORDER = "From left to right: "
NUMBERS = ("zero", "one", "two", "three", "four", "five")


_COUNTING = 0.3
"""Share of questions about number among the small ones, besides those that chance brings."""

Rule = Callable[[tuple[str, str, int]], bool]
"""Whether a shape of a colour may stand in a ninth of the picture."""


def seen(placed: tuple[str, str, int]) -> bool:
    """The rule of training: all but what is held out."""
    return placed not in held_out().placed


def draw_scene(
    rng: random.Random,
    width: int,
    height: int,
    rule: Rule = seen,
    *,
    count: int | None = None,
    area: Box | None = None,
) -> tuple[Image.Image, list[Thing]]:
    """A picture of one to four things that do not touch, no two of them alike.

    Args:
        rng: Where chance comes from.
        width: In pixels.
        height: In pixels.
        rule: What may be drawn.
        count: How many things, if there is room; None: one to four.
        area: The part of the picture where they are; None: all of it.
    """
    area = area or (0, 0, width, height)
    ground = rng.choice(GROUNDS)
    picture = Image.new("RGB", (width, height), ground)
    draw = ImageDraw.Draw(picture)
    things: list[Thing] = []
    wanted = count or rng.randint(1, 4)
    colours = [name for name in COLOURS if not (name == "white" and min(ground) > 200)]
    while not things:  # a rule may leave no place where chance first looks
        for _ in range(40 * wanted):
            if len(things) == wanted:
                break
            is_sign = rng.random() < 0.16 and all(one.shape != "sign" for one in things)
            side = min(width, height)
            thing = _sign(rng, area, height) if is_sign else _shape(rng, area, side, colours)
            is_new = all(one.name != thing.name for one in things)
            if not is_new or any(_near(one.box, thing.box) for one in things):
                continue
            cell = thing.cell(width, height)
            if not is_sign and not rule((thing.colour, thing.shape, cell)):
                continue
            draw_thing(draw, thing, rng)
            things.append(thing)
    return picture, things


def draw_thing(draw: ImageDraw.ImageDraw, thing: Thing, rng: random.Random) -> None:
    """Draw it where its box is."""
    left, top, right, bottom = thing.box
    colour = COLOURS[thing.colour]
    corners = (left, top, right - 1, bottom - 1)
    if thing.shape == "circle":
        draw.ellipse(corners, fill=colour)
    elif thing.shape == "square":
        draw.rectangle(corners, fill=colour)
    elif thing.shape == "triangle":
        middle = (left + right - 1) / 2
        draw.polygon([(middle, top), (right - 1, bottom - 1), (left, bottom - 1)], fill=colour)
    elif thing.shape == "star":
        draw.polygon(_star(thing.box), fill=colour)
    else:
        _draw_sign(draw, thing, rng)


def describe(things: list[Thing]) -> str:
    """What is on a picture, from left to right."""
    names = [thing.full_name for thing in _ordered(things)]
    if len(names) == 1:
        return sentence(names[0])
    return f"{_ORDER}{', '.join(names)}."


def described(things: list[Thing], picture: int | None = None, begin: int = 0) -> tuple[About, ...]:
    """Of what each name of a description is.

    Args:
        things: What is on a picture.
        picture: Which of several pictures that is.
        begin: Where in the answer its description begins.
    """
    place = begin + (len(_ORDER) if len(things) > 1 else 0)
    about = []
    for thing in _ordered(things):
        end = place + len(thing.full_name)
        about.append(About(thing.colour, thing.shape, picture, begin=place, end=end))
        place = end + len(", ")
    return tuple(about)


def _ordered(things: list[Thing]) -> list[Thing]:
    return sorted(things, key=lambda thing: thing.box[0] + thing.box[2])


def _least_step(things: list[Thing]) -> float:
    """The least distance across between the middles of two things, in pixels."""
    middles = [(thing.box[0] + thing.box[2]) / 2 for thing in _ordered(things)]
    return min((right - left for left, right in pairwise(middles)), default=math.inf)


def ground_answer(name: str, things: list[Thing], width: int, height: int) -> str:
    """Where things are, as InternVL writes it: integers 0-1000 of the whole picture."""
    scale = (1000 / width, 1000 / height) * 2
    boxes = [[round(v * s) for v, s in zip(thing.box, scale, strict=True)] for thing in things]
    return f"<ref>{name}</ref><box>{boxes}</box>"


def questions(
    rng: random.Random,
    things: list[Thing],
    width: int,
    height: int,
    count: int,
    *,
    short: bool = False,
) -> list[Question]:
    """Questions about a picture; no two of them the same.

    Args:
        rng: Where chance comes from.
        things: What is on the picture.
        width: Of the picture.
        height: Of the picture.
        count: How many questions.
        short: Whether to ask in few letters, which cost less.
    """
    asked: dict[tuple[str, str], Question] = {}
    for _ in range(4 * count):
        kind = rng.random()
        if kind < 0.3:
            asked_for = prompts.describe(rng, short=short)
            question = Question("describe", asked_for, describe(things), described(things))
        elif kind < 0.75:
            thing = rng.choice(things)
            answer = ground_answer(thing.name, [thing], width, height)
            asked_for = prompts.ground(rng, thing.name, short=short)
            about = About(thing.colour, thing.shape)
            question = Question("ground", asked_for, answer, (about,))
        else:
            question = ask(rng, things)
        key = question.job, "" if question.job == "describe" else question.text
        asked.setdefault(key, question)
        if len(asked) == count:
            break
    return list(asked.values())


def ask(rng: random.Random, things: list[Thing]) -> Question:
    """A small question about colour, number, shape or text."""
    shapes = [thing for thing in things if thing.shape != "sign"]
    how_many = rng.choice(("How many shapes are there?", "How many shapes do you see?"))
    choices = [Question("ask", how_many, sentence(NUMBERS[len(shapes)]))]
    if rng.random() < _COUNTING:
        return choices[0]
    for thing in things:
        alike = [one for one in shapes if one.shape == thing.shape]
        same = [one for one in shapes if one.colour == thing.colour]
        if thing.shape == "sign":
            about = (About(kind="sign"),)
            choices.append(Question("ask", "What does the sign say?", thing.text or "", about))
        elif len(alike) == 1:
            spelling = rng.choice(("color", "color", "colour"))
            asked = f"What {spelling} is the {thing.shape}?"
            about = (About(kind=thing.shape),)
            choices.append(Question("ask", asked, sentence(thing.colour), about))
        if len(same) == 1 and thing.shape != "sign":
            answer = sentence(with_article(thing.shape))
            asked = f"Which shape is {thing.colour}?"
            choices.append(Question("ask", asked, answer, (About(thing.colour),)))
    colour, shape = rng.choice(list(COLOURS)), rng.choice(SHAPES)
    if rng.random() < 0.5 and shapes:
        one = rng.choice(shapes)
        colour, shape = one.colour, one.shape
    there = any(one.name == f"{colour} {shape}" for one in shapes)
    asked = f"Is there {with_article(colour)} {shape}?"
    choices.append(Question("ask", asked, "Yes." if there else "No."))
    return rng.choice(choices)


def scene_sample(
    rng: random.Random, width: int, height: int, *, count: int = 3, things: int | None = None
) -> Sample:
    """A picture of shapes, and questions about it.

    Args:
        rng: Where chance comes from.
        width: In pixels.
        height: In pixels.
        count: How many questions.
        things: How many things; None: one to four.
    """
    picture, drawn = draw_scene(rng, width, height, count=things)
    asked = questions(rng, drawn, width, height, count)
    return Sample(
        [picture],
        asked,
        is_chat=rng.random() < 0.25,
        system=prompts.system(rng),
        things=[drawn],
    )


_CLOSEST = 4
"""Pictures of which that with the least distance is taken."""


def described_sample(rng: random.Random, side: int, *, close: bool = False) -> Sample:
    """A picture of up to four things, which is described: what comes next from left to right.

    Args:
        rng: Where chance comes from.
        side: Of the picture, in pixels.
        close: Whether two things are nearly above each other, so that it is hard to tell which one
            comes first.
    """
    many = [
        draw_scene(rng, side, side, count=rng.choice((2, 3, 3, 4, 4, 4)))
        for _ in range(_CLOSEST if close else 1)
    ]
    picture, drawn = min(many, key=lambda one: _least_step(one[1]))
    asked = Question("describe", prompts.describe(rng), describe(drawn), described(drawn))
    return Sample([picture], [asked], system=prompts.system(rng), things=[drawn])


def window_sample(rng: random.Random, tile: int, area: Box) -> Sample:
    """A part of a tile with one to four things, and four questions about it.

    Args:
        rng: Where chance comes from.
        tile: Side of the tile.
        area: The part.
    """
    room = (area[2] - area[0]) * (area[3] - area[1]) / tile**2
    many = rng.choice((1, 2, 2) if room < 0.25 else (1, 2, 3, 4))
    picture, drawn = draw_scene(rng, tile, tile, count=many, area=area)
    asked = questions(rng, drawn, tile, tile, 4, short=True)
    return Sample([picture.crop(area)], asked, things=[drawn], view=area, size=(tile, tile))


def sign_sample(rng: random.Random, size: int) -> Sample:
    """A sign as an agent cuts it out of a square picture: with its edge, or not all of it."""
    picture = Image.new("RGB", (size, size), rng.choice(GROUNDS))
    sign = _sign(rng, (0, 0, size, size), size)
    draw_thing(ImageDraw.Draw(picture), sign, rng)
    left, top, right, bottom = sign.box
    spill = [round((bottom - top) * rng.uniform(-0.1, 0.3)) for _ in range(4)]
    part = picture.crop(
        (
            max(0, left - spill[0]),
            max(0, top - spill[1]),
            min(size, right + spill[2]),
            min(size, bottom + spill[3]),
        )
    )
    return Sample([part], [Question("read", prompts.read(rng), sign.text or "")])


def pair_sample(rng: random.Random, size: int) -> Sample:
    """Two or three pictures in one message."""
    many = [
        draw_scene(rng, size, size, count=rng.randint(1, 2)) for _ in range(rng.choice((2, 2, 3)))
    ]
    which = rng.randrange(len(many))
    number = "two" if len(many) == 2 else "three"
    answer = ""
    about: tuple[About, ...] = ()
    for index, (_, things) in enumerate(many):
        answer += f"{chr(10) if answer else ''}Image-{index + 1}: "
        about += described(things, index, len(answer))
        answer += describe(things)
    wanted = many[which][1]
    asked = [
        Question(
            "describe",
            rng.choice((f"Describe the {number} images in detail.", "Describe the images.")),
            answer,
            about,
        ),
        Question(
            "describe",
            f"What is in Image-{which + 1}?",
            describe(wanted),
            described(wanted, which),
        ),
    ]
    rng.shuffle(asked)
    return Sample(
        [picture for picture, _ in many],
        asked,
        is_chat=rng.random() < 0.25,
        system=prompts.system(rng),
        things=[things for _, things in many],
    )


def sentence(text: str) -> str:
    """With a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


def _shape(rng: random.Random, area: Box, side: int, colours: list[str]) -> Thing:
    room = min(area[2] - area[0], area[3] - area[1]) - 4
    size = min(room, rng.randint(round(side * 0.11), round(side * 0.34)))
    left, top = _place(rng, area, size, size)
    colour, shape = rng.choice(colours), rng.choice(SHAPES)
    return Thing((left, top, left + size, top + size), f"{colour} {shape}", colour, shape)


def _sign(rng: random.Random, area: Box, height: int) -> Thing:
    text = words.sign_word(rng, words.training_words())
    high = rng.randint(height // 9, height // 5)
    wide = min(area[2] - area[0] - 8, round(high * rng.uniform(0.45, 0.6) * (len(text) + 1)))
    left, top = _place(rng, area, wide, high)
    colour = rng.choice(("white", "yellow", "white"))
    return Thing((left, top, left + wide, top + high), "sign", colour, "sign", text)


def _place(rng: random.Random, area: Box, wide: int, high: int) -> tuple[int, int]:
    """Left and top of something within an area."""
    return rng.randint(area[0] + 2, area[2] - wide - 2), rng.randint(
        area[1] + 2, area[3] - high - 2
    )


def _draw_sign(draw: ImageDraw.ImageDraw, thing: Thing, rng: random.Random) -> None:
    left, top, right, bottom = thing.box
    draw.rectangle(
        (left, top, right - 1, bottom - 1), fill=COLOURS[thing.colour], outline=(0, 0, 0), width=3
    )
    name = rng.choice(fonts.training_fonts())
    size = round((bottom - top) * 0.7)
    while size > 8 and fonts.load_font(name, size).getlength(thing.text or "") > right - left - 10:
        size -= 1
    middle = (left + right) / 2, (top + bottom) / 2
    font = fonts.load_font(name, size)
    draw.text(middle, thing.text or "", fill=(0, 0, 0), font=font, anchor="mm")


def _star(box: Box) -> list[tuple[float, float]]:
    """Five points that touch all four sides of the box."""
    left, top, right, bottom = box
    raw = [
        (radius * math.sin(index * math.pi / 5), -radius * math.cos(index * math.pi / 5))
        for index, radius in enumerate((1.0, 0.42) * 5)
    ]
    xs, ys = [x for x, _ in raw], [y for _, y in raw]
    wide, high = (right - 1 - left) / (max(xs) - min(xs)), (bottom - 1 - top) / (max(ys) - min(ys))
    return [(left + (x - min(xs)) * wide, top + (y - min(ys)) * high) for x, y in raw]


def _near(one: Box, other: Box, gap: int = 8) -> bool:
    return not (
        one[2] + gap < other[0]
        or other[2] + gap < one[0]
        or one[3] + gap < other[1]
        or other[3] + gap < one[1]
    )
