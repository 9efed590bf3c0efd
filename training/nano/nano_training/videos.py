"""Videos of one shape that does something."""

from __future__ import annotations

import random

from PIL import Image, ImageDraw

from nano_training import prompts
from nano_training.held_out import ACTIONS, COLOURS, SHAPES, held_out
from nano_training.samples import Question, Sample
from nano_training.scenes import GROUNDS, draw_thing, sentence
from nano_training.things import Thing, with_article

Acted = tuple[str, str, str]
"""Colour, shape and action."""


def any_acted(rng: random.Random, *, new: bool = False) -> Acted:
    """What a shape does: something of training, or something held out."""
    held = held_out().acted
    while True:
        acted = rng.choice(list(COLOURS)), rng.choice(SHAPES), rng.choice(ACTIONS)
        if (acted in held) == new:
            return acted


def draw_video(
    rng: random.Random, acted: Acted, num_frames: int, size: int = 448
) -> tuple[list[Image.Image], list[Thing]]:
    """Frames of a shape that moves, grows, shrinks or stays, and where it is."""
    colour, shape, action = acted
    ground = rng.choice([one for one in GROUNDS if not (colour == "white" and min(one) > 200)])
    small, large = rng.randint(60, 90), rng.randint(90, 130)
    if action in ("grows", "shrinks"):
        small, large = rng.randint(35, 60), rng.randint(130, 220)
    near, far = rng.randint(4, size // 6), size - large - rng.randint(4, size // 6)
    fixed = rng.randint(4, size - large - 4)
    frames, places = [], []
    for index in range(num_frames):
        done = index / max(1, num_frames - 1)
        if action in ("moves left", "moves up", "shrinks"):
            done = 1 - done
        side, left, top = large, fixed, (near + far) // 2
        if action in ("grows", "shrinks"):
            side = round(small + (large - small) * done)
            left, top = fixed + (large - side) // 2, top + (large - side) // 2
        elif action != "stays still":
            along = round(near + (far - near) * done)
            is_level = action in ("moves right", "moves left")
            left, top = (along, fixed) if is_level else (fixed, along)
        frame = Image.new("RGB", (size, size), ground)
        thing = Thing((left, top, left + side, top + side), f"{colour} {shape}", colour, shape)
        draw_thing(ImageDraw.Draw(frame), thing, rng)
        frames.append(frame)
        places.append(thing)
    return frames, places


def video_questions(rng: random.Random, acted: Acted) -> list[Question]:
    """What is asked about a video."""
    colour, shape, action = acted
    name = with_article(f"{colour} {shape}")
    asked = [
        Question("describe", prompts.watch(rng), f"{sentence(name)[:-1]} {action}."),
        Question("ask", rng.choice((f"What does the {shape} do?", "What does it do?")),
                 f"It {action}."),
        Question("ask", f"What color is the {shape}?", sentence(colour)),
    ]  # fmt: skip
    if action.startswith("moves "):
        way = rng.choice(("Which way does it move?", f"Which way does the {shape} move?"))
        asked.append(Question("ask", way, sentence(action.removeprefix("moves "))))
        asked.append(Question("ask", "What is moving?", sentence(name)))
    return asked


def video_sample(rng: random.Random, num_frames: int) -> Sample:
    """A video, and questions about it."""
    acted = any_acted(rng)
    frames, places = draw_video(rng, acted, num_frames)
    asked = video_questions(rng, acted)
    is_chat = rng.random() < 0.5
    if is_chat:
        rng.shuffle(asked)
    return Sample(
        frames,
        asked,
        is_video=True,
        is_chat=is_chat,
        system=prompts.system(rng),
        things=[[place] for place in places],
    )
