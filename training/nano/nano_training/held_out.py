"""What training never sees, so that figures are of new things.

`held_out.json` was drawn once, by `python -m nano_training.held_out`, and committed before
training; `SHA256` pins it, and a list that was changed afterwards does not load.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

from nano_training.word_list import read_list

PATH = Path(__file__).with_name("held_out.json")
SHA256 = "a9724e761309eb24e8b6ab782fd057c90d401a9a3a9326ddaadb25d3209ead80"

COLOURS = {
    "red": (222, 32, 32),
    "green": (32, 160, 52),
    "blue": (40, 72, 222),
    "yellow": (242, 212, 40),
    "black": (20, 20, 20),
    "white": (250, 250, 250),
    "purple": (142, 40, 172),
    "orange": (246, 138, 30),
}
"""The colours of shapes, as RGB."""

SHAPES = ("circle", "square", "triangle", "star")
"""What is drawn."""

CELLS = tuple(range(9))
"""Where on a picture the middle of a shape is: ninths, left to right and top to bottom."""

ACTIONS = ("moves right", "moves left", "moves up", "moves down", "grows", "shrinks", "stays still")
"""What a shape does in a video."""

FONTS = ("Caladea-Regular.ttf", "SourceSansPro-Regular.ttf", "SourceSansPro-Semibold.ttf")
"""Files of fonts that training never draws with; Caladea is a serif, Source Sans is none."""


@dataclass(frozen=True)
class HeldOut:
    """What training leaves out.

    Attributes:
        fonts: File names of fonts.
        words: Lower-case words.
        placed: (colour, shape, cell) of a shape on a picture.
        acted: (colour, shape, action) of a shape in a video.
        sha256: Digest of the list.
    """

    fonts: frozenset[str]
    words: frozenset[str]
    placed: frozenset[tuple[str, str, int]]
    acted: frozenset[tuple[str, str, str]]
    sha256: str


@cache
def held_out() -> HeldOut:
    """The committed list.

    Raises:
        RuntimeError: It is not the list that training was begun with.
    """
    raw = PATH.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != SHA256:
        raise RuntimeError(f"{PATH} was changed after training began: {digest} is not {SHA256}")
    lists = json.loads(raw)
    return HeldOut(
        fonts=frozenset(lists["fonts"]),
        words=frozenset(lists["words"]),
        placed=frozenset((colour, shape, cell) for colour, shape, cell in lists["placed"]),
        acted=frozenset((colour, shape, action) for colour, shape, action in lists["acted"]),
        sha256=digest,
    )


def draw_list(words: Sequence[str], seed: int = 2026) -> dict[str, Sequence[object]]:
    """A list to hold out: 600 words, about a sixth of all places and actions of shapes."""
    rng = random.Random(seed)
    placed = sorted(product(COLOURS, SHAPES, CELLS))
    acted = sorted(product(COLOURS, SHAPES, ACTIONS))
    return {
        "fonts": sorted(FONTS),
        "words": sorted(rng.sample(sorted(words), 600)),
        "placed": sorted(rng.sample(placed, len(placed) // 6)),
        "acted": sorted(rng.sample(acted, len(acted) // 6)),
    }


def main() -> None:
    """Write the list; done once, before training."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(value)}" for key, value in draw_list(read_list()).items()
    ]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(hashlib.sha256(PATH.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
