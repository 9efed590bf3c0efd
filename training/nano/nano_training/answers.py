"""Questions about numbered pages, answered with a line of them and the number of its page.

The prompt is the one of `answer_with_citations`: page images, the text that was read from them, and
a question; the answer repeats the line that the question is about, and cites its page.
"""

from __future__ import annotations

import random
import string
from collections.abc import Sequence

from PIL import Image

from langchain_internvl.documents.citations import QUESTION
from nano_training import words
from nano_training.pages import Print, draw_page
from nano_training.samples import About, Asked, Question, Sample
from nano_training.sizes import TILE
from nano_training.things import Letter

_ASKED = (
    "How much is the {}?",
    "What is the {}?",
    "When is the {}?",
    "Where is the {}?",
    "How many {}?",
    "What about the {}?",
    "What does it say about {}?",
    "Which {}?",
    "Who has the {}?",
    "Is there a {}?",
)

UNSAID = "The pages do not say it."
"""The answer where no line has the word."""

_UNSAID_SHARE = 0.1

_ASKS = 5
"""Questions about the same pages."""

LINES, SIZES = (2, 5), (24, 44)
"""Fewest and most lines of a page, smallest and largest font in pixels."""

_LEAST = 4
"""Letters of a word that is asked for."""


def document_line(rng: random.Random, some: Sequence[str]) -> str:
    """A line as documents have it: a word with a number, another word, or both."""
    first, second = (rng.choice(some) for _ in range(2))
    first = rng.choice((first.title(), first.title(), first, first.upper()))
    number = words.number(rng)
    return rng.choice(
        (
            f"{first} {number}",
            f"{first} {number}",
            f"{first} {number} {second}",
            f"{first} {second}",
            f"{first} of the {second}",
            f"{first} and {second}",
            f"No {second}",
            f"{first} by {second}",
            f"to {first}",
        )
    )


def ask_pages(rng: random.Random, texts: Sequence[str], *, is_said: bool = True) -> Question:
    """A question about numbered pages, from whose text its answer is copied.

    Args:
        rng: Where chance comes from.
        texts: The text of each page; one line at least has a word that no other line has.
        is_said: Whether a page answers it.
    """
    page, line, word = rng.choice(_alone(texts))
    asked = rng.choice(_ASKED)
    if not is_said:
        everything = " ".join(texts).lower()
        word = next(
            one for one in iter(lambda: rng.choice(words.training_words()), None)
            if len(one) >= _LEAST and one not in everything
        )  # fmt: skip
    numbered = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))
    question = QUESTION.replace("{pages}", numbered).replace("{question}", asked.format(word))
    if not is_said:
        return Question("ask", question, UNSAID)
    begin = question.index(numbered)
    mark = question.index(f"[{page}] {texts[page - 1]}", begin)
    text = mark + len(f"[{page}] ")
    place = text + f"\n{texts[page - 1]}\n".index(f"\n{line}\n")
    begins = place + line.lower().index(word)
    about = (
        About(
            copied=place,
            asked=Asked(question.rindex(word), begins, place, len(word)),
            end=len(line),
        ),
        About(copied=mark, begin=len(line) + 1, end=len(line) + 1 + len(f"[{page}]")),
    )
    return Question("ask", question, f"{line} [{page}].", about)


def draw_pages(
    rng: random.Random, style: Print, count: int
) -> tuple[list[Image.Image], list[str], list[list[Letter]]]:
    """Pages of one tile of which at least one line can be asked for."""
    while True:
        drawn = [draw_page(rng, TILE, TILE, style) for _ in range(count)]
        if _alone([text for _, text, _ in drawn]):
            pictures, texts, letters = zip(*drawn, strict=True)
            return list(pictures), list(texts), list(letters)


def cited_sample(rng: random.Random) -> Sample:
    """One or two pages, and questions that they answer."""
    style = Print(LINES, SIZES, _training_document_line, one_font=True)
    pictures, texts, letters = draw_pages(rng, style, rng.choice((1, 2, 2)))
    asked = [ask_pages(rng, texts, is_said=rng.random() >= _UNSAID_SHARE) for _ in range(_ASKS)]
    different = list({question.text: question for question in asked}.values())
    return Sample(pictures, different, letters=letters, is_numbered=True)


def _training_document_line(rng: random.Random) -> str:
    return document_line(rng, words.training_words())


def _alone(texts: Sequence[str]) -> list[tuple[int, str, str]]:
    """Words that one line alone has: the number of its page, the line, and the word."""
    lines = [(page, line) for page, text in enumerate(texts, 1) for line in text.split("\n")]
    return [
        (page, line, word)
        for page, line in lines
        for word in _words(line)
        if sum(word in other.lower() for _, other in lines) == 1
    ]


def _words(line: str) -> list[str]:
    """The words of a line that can be asked for, in small letters."""
    found = [word.strip(string.punctuation).lower() for word in line.split()]
    return [word for word in found if len(word) >= _LEAST and word.isalpha()]
