"""What is written on pictures."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from functools import cache

from nano_training.held_out import held_out
from nano_training.word_list import read_list

_ANY = string.ascii_letters + string.digits + ".,:;-/$%#&()!?'+"


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
        letters = _ANY
    return "".join(rng.choice(letters) for _ in range(rng.randint(1, longest)))


def training_line(rng: random.Random) -> str:
    """A line of text to learn from: words, numbers and scribbles."""
    parts = []
    for _ in range(rng.choice((1, 1, 2, 2, 3))):
        kind = rng.random()
        if kind < 0.5:
            parts.append(cased(rng, rng.choice(training_words())))
        elif kind < 0.65:
            parts.append(number(rng))
        else:
            parts.append(scribble(rng))
    if rng.random() < 0.15:
        parts[-1] += rng.choice(".,:!?")
    return " ".join(parts)


def new_line(rng: random.Random) -> str:
    """A line of text to be measured on: held-out words, one in six a number."""
    return " ".join(
        number(rng) if rng.random() < 1 / 6 else cased(rng, rng.choice(new_words()))
        for _ in range(rng.choice((1, 1, 2, 2, 3)))
    )


Writer = Callable[[random.Random], str]
"""Draws a line of text."""


def sign_word(rng: random.Random, words: Sequence[str]) -> str:
    """What stands on a sign: one short word or number."""
    if rng.random() < 0.15:
        return str(rng.randrange(1, 1000))
    short = [word for word in rng.sample(words, 12) if len(word) <= 7]
    return cased(rng, short[0] if short else words[0][:7])
