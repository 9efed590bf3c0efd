"""The words of the questions: the tools' own and paraphrases."""

from __future__ import annotations

import random

from langchain_internvl.tools.task_prompts import DESCRIBE, GROUND, READ, WATCH

_DESCRIBE = (
    "Please describe the image in detail.",
    "Describe the image.",
    "Describe this image.",
    "What is in the image?",
    "What is in this picture?",
    "What do you see?",
)
_READ = (
    "Read the text.",
    "Read all the text in the image.",
    "What does the text say?",
    "What does it say?",
    "Extract all text from the image.",
    "Please extract the text in the image.",
    "OCR",
)
_GROUND = ("Where is the {}?", "Find the <ref>{}</ref>.", "Locate the {}.")
_WATCH = (
    "Describe this video.",
    "What happens in this video?",
    "What happens in the video?",
    "Describe this video in detail. Don't repeat.",
)
_SYSTEMS = (
    "You are a helpful assistant.",
    "Answer shortly.",
    "You are InternVL, a vision-language model.",
    "You are a careful assistant who looks at pictures.",
)


def describe(rng: random.Random, *, short: bool = False) -> str:
    """Asks for a description."""
    return rng.choice(_DESCRIBE[1:]) if short else _own_or_other(rng, DESCRIBE, _DESCRIBE)


def read(rng: random.Random, *, short: bool = False) -> str:
    """Asks for the text."""
    return rng.choice(("OCR", "Read the text.")) if short else _own_or_other(rng, READ, _READ)


def ground(rng: random.Random, name: str, *, short: bool = False) -> str:
    """Asks where something is."""
    question = rng.choice(_GROUND) if short else _own_or_other(rng, GROUND, _GROUND)
    return question.format(name)


def watch(rng: random.Random) -> str:
    """Asks what happens in a video."""
    return _own_or_other(rng, WATCH, _WATCH)


def system(rng: random.Random) -> str | None:
    """A system text, or mostly none."""
    return rng.choice(_SYSTEMS) if rng.random() < 0.25 else None


def _own_or_other(rng: random.Random, own: str, others: tuple[str, ...]) -> str:
    return own if rng.random() < 0.5 else rng.choice(others)
