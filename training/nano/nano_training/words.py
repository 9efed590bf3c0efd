"""What is written on pictures."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from functools import cache

from nano_training.held_out import held_out
from nano_training.word_list import read_list

WRITTEN = string.ascii_letters + string.digits + ".,:;-/$%#&()!?'+"
"""Every letter of lines but the space."""

Writer = Callable[[random.Random], str]
"""Draws a line of text."""


@cache
def training_words() -> tuple[str, ...]:
    """The words that may be drawn in training."""
    return tuple(word for word in read_list() if word not in held_out().words)


@cache
def new_words() -> tuple[str, ...]:
    """The words that are drawn in evaluation only."""
    return tuple(sorted(held_out().words))


def cased(rng: random.Random, word: str) -> str:
    """A word in lower case, with a capital, or in capitals."""
    return rng.choice((word, word, word.title(), word.upper()))


def number(rng: random.Random) -> str:
    """A number as bills and labels write it."""
    value = rng.randrange(10 ** rng.randint(1, 5))
    return rng.choice(
        (
            f"{value}",
            f"{value}",
            f"${value}.{rng.randrange(100):02}",
            f"{value}%",
            f"#{value}",
            f"No. {value}",
            f"{rng.randrange(24):02}:{rng.randrange(60):02}",
            f"{rng.randint(1990, 2035)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
            f"{value % 100}.{rng.randrange(10)}",
        )
    )


def scribble(rng: random.Random, longest: int = 10) -> str:
    """Letters of no language: what is read must be seen, and cannot be guessed."""
    kind = rng.random()
    if kind < 0.4:
        letters = string.ascii_lowercase
    elif kind < 0.65:
        letters = string.ascii_uppercase
    elif kind < 0.8:
        letters = string.digits
    else:
        letters = WRITTEN
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, longest)))


_SHORT = ("no", "yes", "of", "to", "in", "on", "at", "a", "the", "and", "or", "for", "not", "is")
"""Words that the list lacks; "No" is the beginning of a number otherwise."""


def _part(rng: random.Random) -> str:
    """A word, a number or a scribble."""
    kind = rng.random()
    if kind < 0.06:
        return cased(rng, rng.choice(_SHORT))
    if kind < 0.5:
        return cased(rng, rng.choice(training_words()))
    return number(rng) if kind < 0.65 else scribble(rng)


def training_line(rng: random.Random) -> str:
    """A line of text to learn from: words, numbers and scribbles."""
    parts = [_part(rng) for _ in range(rng.choice((1, 1, 2, 2, 3)))]
    if rng.random() < 0.15:
        parts[-1] += rng.choice(".,:!?")
    return " ".join(parts)


def echoing(rng: random.Random) -> Writer:
    """Lines of few words again and again: which one is read must be known by its place."""
    few = [_part(rng) for _ in range(rng.randint(3, 6))]

    def line(rng: random.Random) -> str:
        if rng.random() < 0.3:
            return training_line(rng)
        parts = rng.choices(few, k=rng.choice((1, 1, 2, 2, 3)))
        return " ".join(cased(rng, part) if rng.random() < 0.2 else part for part in parts)

    return line


_CLASSES = (string.ascii_lowercase, string.ascii_uppercase, string.digits)


def misread(rng: random.Random, text: str) -> str:
    """A text with some wrong letters, as many as it had: up to one of six, in half of all texts."""
    share = rng.uniform(0, 1 / 6) if rng.random() < 0.5 else 0.0
    return "".join(_other(rng, letter) if rng.random() < share else letter for letter in text)


def _other(rng: random.Random, letter: str) -> str:
    """Any letter of its class; what is of none stays."""
    own = next((some for some in _CLASSES if letter in some), letter)
    return rng.choice(own if rng.random() < 0.8 or own == letter else string.ascii_letters)


def new_line(rng: random.Random) -> str:
    """A line of text to be measured on: held-out words, one in six a number."""
    return " ".join(
        number(rng) if rng.random() < 1 / 6 else cased(rng, rng.choice(new_words()))
        for _ in range(rng.choice((1, 1, 2, 2, 3)))
    )


def sign_word(rng: random.Random, words: Sequence[str]) -> str:
    """What stands on a sign: one short word or number."""
    if rng.random() < 0.15:
        return str(rng.randrange(1, 1000))
    short = [word for word in rng.sample(words, 12) if len(word) <= 7]
    return cased(rng, short[0] if short else words[0][:7])
