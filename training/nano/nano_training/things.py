"""What is drawn on pictures, and what each token of a tile should know of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nano_training.held_out import COLOURS, SHAPES

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels; the last ones are outside."""

KINDS = (*SHAPES, "sign")
"""What a thing may be."""

UNKNOWN = -1.0
"""Mark of tokens of which nothing is said, as their tile has pictures of no things."""

LETTERS = "".join(map(chr, range(33, 127)))
"""What is written: the visible part of ASCII."""

SLOTS = (2, 5)
"""Rows and columns of places for letters in the square of a token, each 16 x 6.4 pixels."""

_OF_THINGS = 11

FACTS = _OF_THINGS + SLOTS[0] * SLOTS[1]
"""How many things a token should know: of a thing, and of the letters in its square."""

View = tuple[float, float, float, float]
"""left, top, right, bottom of what is looked at."""

_LEAST = 0.12
"""How much of its square a thing must cover for a token to know of it."""


@dataclass(frozen=True)
class Thing:
    """Something on a picture.

    Attributes:
        box: Where it is.
        name: What it is called, such as "red circle" or "sign".
        colour: Name of its colour.
        shape: Its kind.
        text: What is written on it.
    """

    box: Box
    name: str
    colour: str
    shape: str
    text: str | None = None

    @property
    def full_name(self) -> str:
        """Its name, with an article and what is written on it."""
        said = f' that says "{self.text}"' if self.text else ""
        return with_article(self.name) + said

    def cell(self, width: int, height: int) -> int:
        """In which ninth of a picture its middle is."""
        left, top, right, bottom = self.box
        return (left + right) * 3 // (2 * width) + 3 * ((top + bottom) * 3 // (2 * height))


@dataclass(frozen=True)
class Letter:
    """A letter on a picture, and its middle in pixels."""

    letter: str
    x: float
    y: float


def with_article(name: str) -> str:
    """A name with "a" or "an"."""
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def tokens_of(
    known: NDArray[np.float32], colour: str | None, kind: str | None
) -> NDArray[np.bool_]:
    """Which tokens know of a thing: bool [n].

    Args:
        known: What the tokens should know, [n, FACTS].
        colour: Its colour; None: any.
        kind: Its kind; None: any but signs.
    """
    right = known[:, 1] >= 0
    right &= known[:, 1] < len(SHAPES) if kind is None else known[:, 1] == KINDS.index(kind)
    if colour is not None:
        right &= known[:, 0] == list(COLOURS).index(colour)
    return right


def tokens_of_letters(
    letters: Sequence[Letter], views: Sequence[View], tokens: tuple[int, int]
) -> list[int]:
    """On which token each letter's middle is; -1: on none.

    Args:
        letters: What is written on the picture.
        views: The part of it that each tile shows.
        tokens: Rows and columns of tokens of a tile.

    Returns:
        For each letter the number of the token, tile by tile and row by row.
    """
    rows, columns = tokens
    found = [-1] * len(letters)
    for tile, (left, top, right, bottom) in enumerate(views):
        down, across = rows / (bottom - top), columns / (right - left)
        for number, letter in enumerate(letters):
            row, column = int((letter.y - top) * down // 1), int((letter.x - left) * across // 1)
            if 0 <= row < rows and 0 <= column < columns:
                found[number] = (tile * rows + row) * columns + column
    return found


def unknown(count: int) -> NDArray[np.float32]:
    """What tokens should know of which nothing is said: float32 [count, FACTS]."""
    return np.full((count, FACTS), UNKNOWN, np.float32)


def letters_known(
    letters: Sequence[Letter], view: View, tokens: tuple[int, int]
) -> NDArray[np.float32]:
    """The letters that each token should know, and where in its square their middles are.

    Args:
        letters: What is written on the picture.
        view: The part of it that is looked at.
        tokens: Rows and columns of tokens.

    Returns:
        float32 [rows * columns, FACTS]: number of the letter in each slot (`len(LETTERS)`: none),
        row by row; nothing about things.
    """
    rows, columns = tokens
    left, top, right, bottom = view
    across, down = columns * SLOTS[1] / (right - left), rows * SLOTS[0] / (bottom - top)
    slots = np.full((rows * SLOTS[0], columns * SLOTS[1]), float(len(LETTERS)), np.float32)
    for letter in letters:
        row, column = int((letter.y - top) * down // 1), int((letter.x - left) * across // 1)
        if 0 <= row < slots.shape[0] and 0 <= column < slots.shape[1]:
            slots[row, column] = LETTERS.index(letter.letter)
    known = unknown(rows * columns)
    by_token = slots.reshape(rows, SLOTS[0], columns, SLOTS[1]).transpose(0, 2, 1, 3)
    known[:, _OF_THINGS:] = by_token.reshape(rows * columns, -1)
    return known


def landmarks(
    things: Sequence[Thing], size: tuple[int, int], view: View, tokens: tuple[int, int]
) -> NDArray[np.float32]:
    """The thing that each token should know: the one that covers most of its square.

    Args:
        things: What is on the picture.
        size: Width and height of the picture.
        view: The part of it that is looked at.
        tokens: Rows and columns of tokens.

    Returns:
        float32 [rows * columns, FACTS]: number of its colour and of its kind (one past the
        last: there is nothing), whether its middle is here, its box as shares of the picture,
        and the part of the box inside the square as shares of the square; nothing about letters.
    """
    rows, columns = tokens
    left, top, right, bottom = view
    xs = np.linspace(left, right, columns + 1)
    ys = np.linspace(top, bottom, rows + 1)
    known = np.zeros((rows, columns, _OF_THINGS), np.float32)
    known[..., :2] = len(COLOURS), len(KINDS)
    most = np.full((rows, columns), _LEAST)
    square = (xs[1] - xs[0]) * (ys[1] - ys[0])
    for thing in things:
        x0, y0, x1, y1 = thing.box
        across = np.clip(np.minimum(xs[1:], x1) - np.maximum(xs[:-1], x0), 0, None)
        down = np.clip(np.minimum(ys[1:], y1) - np.maximum(ys[:-1], y0), 0, None)
        covered = down[:, None] * across / square
        middle = np.zeros((rows, columns), bool)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        middle |= (_within(ys, y))[:, None] & _within(xs, x)
        here = (covered > most) | middle
        most = np.where(here, np.maximum(covered, most), most)
        known[here, 0] = list(COLOURS).index(thing.colour)
        known[here, 1] = KINDS.index(thing.shape)
        known[here, 2] = middle[here]
        known[here, 3:7] = np.array(thing.box) / (*size, *size)
        corners = [(x0, xs, 1), (y0, ys, 0), (x1, xs, 1), (y1, ys, 0)]
        for index, (side, edges, axis) in enumerate(corners, 7):
            inside = np.clip((side - edges[:-1]) / (edges[1] - edges[0]), 0, 1)
            spread = inside[None, :] if axis else inside[:, None]
            known[here, index] = np.broadcast_to(spread, here.shape)[here]
    everything = unknown(rows * columns)
    everything[:, :_OF_THINGS] = known.reshape(-1, _OF_THINGS)
    return everything


def _within(edges: NDArray[np.float64], value: float) -> NDArray[np.bool_]:
    return (edges[:-1] <= value) & (value < edges[1:])
