"""Small generated sets of evaluation cases, one a kind, that nano can be asked about."""

import json
import random

import numpy as np
from nano_training.fonts import any_font, training_fonts
from nano_training.pages import Print, draw_page
from nano_training.scenes import draw_scene, ground_answer
from nano_training.videos import draw_video
from PIL import Image, ImageDraw
from videos import write_clip

from langchain_internvl.grounding import parse_boxes
from langchain_internvl.tools.task_prompts import GROUND, READ

NUMBERS = ("Zero.", "One.", "Two.", "Three.", "Four.")


def documents(rng, folder, name):
    image, text, _ = draw_page(rng, 448, 224, Print((1, 2), (28, 36)))
    image.save(folder / f"{name}.png")
    return {"image": f"{name}.png", "question": READ, "answer": text}


def charts(rng, folder, name):
    """One bar with its value printed above it."""
    value = rng.randint(10, 99)
    image = Image.new("RGB", (448, 224), "white")
    pen = ImageDraw.Draw(image)
    pen.rectangle((140, 200 - value, 220, 223), fill=(226, 234, 240))
    font = any_font(rng, training_fonts(), (34, 34))
    pen.text((152, 140 - value), str(value), fill="black", font=font)
    image.save(folder / f"{name}.png")
    return {"image": f"{name}.png", "question": READ, "answer": str(value)}


def counting(rng, folder, name):
    image, things = draw_scene(rng, 448, 448)
    image.save(folder / f"{name}.png")
    shapes = sum(thing.shape != "sign" for thing in things)
    question = "How many shapes are there?"
    return {"image": f"{name}.png", "question": question, "answer": NUMBERS[shapes]}


def grounding(rng, folder, name):
    image, things = draw_scene(rng, 448, 448, count=2)
    image.save(folder / f"{name}.png")
    (box,) = parse_boxes(ground_answer("", things[:1], 448, 448))
    corners = [round(v) for v in (box.x1, box.y1, box.x2, box.y2)]
    question = GROUND.format(things[0].name)
    return {"image": f"{name}.png", "question": question, "box": corners}


def videos(rng, folder, name):
    action = rng.choice(("moves left", "moves right", "grows", "shrinks", "stays still"))
    frames, _ = draw_video(rng, ("red", "circle", action), 16)
    pixels = [np.asarray(frame) for frame in frames]
    write_clip(folder / f"{name}.mp4", pixels, fps=8, crf=10)
    question = "What does the circle do?"
    return {"video": f"{name}.mp4", "question": question, "answer": f"It {action}."}


def write_set(kind, folder, count, seed=2030):
    """Draw `count` cases of a kind and write them as JSON Lines; returns the file."""
    rng = random.Random(f"{kind.__name__} {seed}")
    rows = [
        {"id": f"{kind.__name__}-{number}", **kind(rng, folder, f"{kind.__name__}-{number}")}
        for number in range(count)
    ]
    path = folder / f"{kind.__name__}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path
