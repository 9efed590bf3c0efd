"""Which samples a step of training sees."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from PIL import Image
from torch.utils.data import Dataset

from langchain_internvl.media.tiling import tile_image
from nano_training.answers import cited_sample
from nano_training.batches import Batch, Row, collate
from nano_training.encoding import Encoder
from nano_training.lists import GRIDS, MOST_TILES, blank_sample, list_sample
from nano_training.pages import Print, page_sample
from nano_training.samples import Sample
from nano_training.scenes import (
    described_sample,
    pair_sample,
    scene_sample,
    sign_sample,
    window_sample,
)
from nano_training.shares import MIXTURES, SHAPES, SMALL, WINDOW, Mixture
from nano_training.sizes import SQUARE, TILE, TOKENS
from nano_training.things import Letter
from nano_training.videos import video_sample

CELL = SQUARE
CELLS = TILE // CELL
"""Squares along a side of a tile."""

FARTHEST = (MOST_TILES + 1) * TOKENS
"""Where the text after a picture begins at most, but for the few tokens around it."""


@dataclass(frozen=True)
class Kind:
    """A kind of batch.

    Attributes:
        rows: Rows of a batch.
        draw: Draws a sample.
        is_far: Whether what is asked stands, half of the time, as far behind the picture as it may
            behind one of `MOST_TILES`: a page of few tiles costs little, and how far back to look
            is learnt from it all the same.
    """

    rows: int
    draw: Callable[[random.Random], Sample]
    is_far: bool = False

    def text_from(self, rng: random.Random) -> int:
        """Where the text after a picture may begin, as `Encoder.row` takes it."""
        return rng.randint(0, FARTHEST) if self.is_far and rng.random() < 0.5 else 0


def _few_lines(rng: random.Random) -> Sample:
    return page_sample(rng, TILE, TILE, Print((1, 4), (20, 52), one_font=rng.random() < 0.3))


def _dense(rng: random.Random) -> Sample:
    return page_sample(rng, TILE, TILE, Print((4, 12), (20, 44), one_font=rng.random() < 0.5))


def _any_size(rng: random.Random) -> Sample:
    """A label or sign as it is cropped: of any size, the letters stretched by the tiling."""
    size = rng.randint(20, 72)
    lines = rng.choice((1, 1, 2))
    width = rng.randint(4 * size, 10 * size)
    height = round(size * (1.5 * lines + rng.uniform(0.1, 2)))
    return page_sample(rng, width, height, Print((1, lines), (size, size), one_font=True))


def _stretched(rng: random.Random) -> Sample:
    """The same as `ChatInternVL(max_tiles=1)` shows it: stretched to one tile."""
    return _to_one_tile(_any_size(rng))


def _one_tile_sign(rng: random.Random) -> Sample:
    return _to_one_tile(sign_sample(rng, TILE))


def _to_one_tile(sample: Sample) -> Sample:
    width, height = sample.pictures[0].size
    across, down = TILE / width, TILE / height
    letters = [
        [Letter(one.letter, one.x * across, one.y * down) for one in some]
        for some in sample.letters
    ]
    picture = Image.fromarray(tile_image(sample.pictures[0], 1, 1)[0])
    return replace(sample, pictures=[picture], letters=letters)


def _wide(rng: random.Random) -> Sample:
    columns, rows = rng.choice(((2, 1), (1, 2), (3, 1), (1, 3), (2, 2), (2, 2), (3, 2), (2, 3)))
    style = Print((2, 4 + 3 * rows), (22, 48), one_font=rng.random() < 0.6)
    return page_sample(rng, columns * TILE, rows * TILE, style)


def _scene(rng: random.Random) -> Sample:
    side = TILE if rng.random() < 0.6 else rng.randint(200, 640)
    return scene_sample(rng, side, side, count=4)


def _square_scene(rng: random.Random) -> Sample:
    """Of one tile, so that rows are of about one length."""
    side = TILE if rng.random() < 0.7 else rng.randint(200, 620)
    return scene_sample(rng, side, side, count=4)


def _simple_scene(rng: random.Random) -> Sample:
    """One or two things: where to look, and how far they reach, is learnt on these."""
    return scene_sample(rng, TILE, TILE, count=2, things=rng.choice((1, 1, 2)))


def _placed_lines(rng: random.Random) -> Sample:
    """Few lines on one tile, and where up to four of them are."""
    return list_sample(rng, ((1, 1),), places=4, style=Print((1, 6), (20, 48)))


def _wide_scene(rng: random.Random) -> Sample:
    width, height = rng.choice(
        ((640, 480), (480, 640), (896, 448), (448, 896), (640, 360), (800, 600))
    )
    return scene_sample(rng, width, height, count=4)


_SMALL_GRIDS = ((2, 1), (1, 2), (2, 2))
_ACROSS = ((4, 1), (4, 1), (4, 2), (3, 1))
"""Few tiles, most of them four across, which are read worst."""
_WIDE_GRIDS = (*GRIDS, (4, 2), (3, 3), (3, 4), (4, 3))
"""Those of many tiles, and of four across, are read worst, so they come twice."""

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "few lines": Kind(12, _few_lines),
        "dense": Kind(10, _dense),
        "any size": Kind(3, _any_size),
        "stretched": Kind(12, _stretched),
        "sign": Kind(3, lambda rng: sign_sample(rng, TILE)),
        "one tile sign": Kind(12, _one_tile_sign),
        "wide": Kind(3, _wide),
        "scene": Kind(8, _scene),
        "square scene": Kind(12, _square_scene),
        "simple scene": Kind(12, _simple_scene),
        "wide scene": Kind(2, _wide_scene),
        "pair": Kind(5, lambda rng: pair_sample(rng, TILE)),
        "video": Kind(2, lambda rng: video_sample(rng, rng.choice((4, 4, 6, 8, 8)))),
        "list": Kind(1, list_sample),
        "short list": Kind(8, lambda rng: list_sample(rng, ((1, 1),), places=3)),
        "middle list": Kind(3, lambda rng: list_sample(rng, ((2, 1), (1, 2)), places=2)),
        "read list": Kind(1, lambda rng: list_sample(rng, places=0)),
        "small read list": Kind(3, lambda rng: list_sample(rng, _SMALL_GRIDS, places=0)),
        "far read list": Kind(3, lambda rng: list_sample(rng, _SMALL_GRIDS, places=0), is_far=True),
        "across read list": Kind(2, lambda rng: list_sample(rng, _ACROSS, places=0), is_far=True),
        "wide read list": Kind(1, lambda rng: list_sample(rng, _WIDE_GRIDS, places=0)),
        "placed lines": Kind(6, _placed_lines),
        "described": Kind(16, lambda rng: described_sample(rng, TILE)),
        "close": Kind(16, lambda rng: described_sample(rng, TILE, close=True)),
        "cited": Kind(4, cited_sample),
        "blank": Kind(8, blank_sample),
    }
)
"""Batches of whole tiles, about twelve."""

_WINDOWS = ((2, 6), (2, 8), (2, 10), (3, 8), (4, 8), (2, 14), (4, 12), (3, 14), (6, 8), (6, 14))
_FIRST_WINDOWS = ((2, 4), (2, 6), (2, 8))
_SMALL_WINDOWS = (
    (2, 4),
    (2, 6),
    (2, 8),
    (2, 10),
    (2, 14),
    (3, 6),
    (3, 8),
    (3, 10),
    (4, 6),
    (4, 10),
)
_WINDOWS_OF = {"first window": _FIRST_WINDOWS, SMALL: _SMALL_WINDOWS}
_SHAPE_WINDOWS = ((6, 6), (7, 7), (6, 9), (9, 6), (7, 9), (9, 7), (9, 9), (7, 14), (14, 7))


@dataclass(frozen=True)
class Course:
    """What is shown when.

    Attributes:
        mixture: Name of the mixture.
        first: Name of the mixture of the first steps.
        first_steps: How many these are.
        parts: Batches of a step, each of a kind of its own.
        scale: How many times as many rows a batch has as `KINDS` says.
        seed: Where chance comes from.
        member: Which of several processes that train together this is, from 0.
    """

    mixture: str = "all"
    first: str = "first"
    first_steps: int = 0
    parts: int = 1
    scale: int = 1
    seed: int = 1
    member: int = 0

    def at(self, step: int) -> Mixture:
        """The mixture of a step."""
        return MIXTURES[self.first if step < self.first_steps else self.mixture]


@cache
def _encoder() -> Encoder:
    return Encoder()


class Steps(Dataset[list[Batch]]):
    """The batches of a process of a run: its step k is the same whenever and wherever it is drawn.

    Args:
        course: What is shown when.
        begin: First step.
        end: Step after the last.
        pad: Id to pad with.
    """

    def __init__(self, course: Course, begin: int, end: int, pad: int) -> None:
        self._course = course
        self._begin = begin
        self._end = end
        self._pad = pad

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, index: int) -> list[Batch]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        step = self._begin + index
        mixture = self._course.at(step)
        own = f"/{self._course.member}" if self._course.member else ""
        return [
            self._batch(random.Random(f"{self._course.seed}/{step}/{part}{own}"), mixture)
            for part in range(self._course.parts)
        ]

    def _batch(self, rng: random.Random, mixture: Mixture) -> Batch:
        kind = rng.choices(list(mixture), list(mixture.values()))[0]
        if kind == SHAPES:
            return self._shapes(rng)
        if kind.endswith(WINDOW):
            return self._windows(rng, kind)
        many = KINDS[kind].rows * self._course.scale
        rows = [
            _encoder().row(KINDS[kind].draw(rng), text_from=KINDS[kind].text_from(rng))
            for _ in range(many)
        ]
        return collate(kind, rows, self._pad)

    def _windows(self, rng: random.Random, kind: str) -> Batch:
        """Windows of text, somewhere on the tile."""
        rows, columns = rng.choice(_WINDOWS_OF.get(kind, _WINDOWS))
        origin = 2 * rng.randint(0, CELLS - rows), 2 * rng.randint(0, CELLS - columns)
        many = max(10, min(64, 4000 // (rows * columns + 60))) * self._course.scale
        style = Print((1, 2 * rows), (19, 28)) if kind == SMALL else Print((1, rows), (20, 50))
        drawn = [
            page_sample(rng, columns * CELL, rows * CELL, style, short=rng.random() < 0.8)
            for _ in range(many)
        ]
        return collate(kind, [self._window(sample) for sample in drawn], self._pad, origin)

    def _shapes(self, rng: random.Random) -> Batch:
        """Windows with shapes, somewhere on the tile."""
        rows, columns = rng.choice(_SHAPE_WINDOWS)
        row, column = rng.randint(0, CELLS - rows), rng.randint(0, CELLS - columns)
        area = (column * CELL, row * CELL, (column + columns) * CELL, (row + rows) * CELL)
        many = max(10, min(40, 7000 // (rows * columns + 220))) * self._course.scale
        drawn = [window_sample(rng, TILE, area) for _ in range(many)]
        return collate(
            SHAPES, [self._window(sample) for sample in drawn], self._pad, (2 * row, 2 * column)
        )

    def _window(self, sample: Sample) -> Row:
        return _encoder().row(sample, whole_tiles=False)
