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
from nano_training.encoding import Batch, Encoder, Row, collate
from nano_training.pages import Print, page_sample
from nano_training.samples import Sample
from nano_training.scenes import pair_sample, scene_sample, window_sample
from nano_training.things import Letter
from nano_training.videos import video_sample

TILE, CELL = 448, 56


@dataclass(frozen=True)
class Kind:
    """A kind of batch.

    Attributes:
        rows: Rows of a batch.
        draw: Draws a sample.
    """

    rows: int
    draw: Callable[[random.Random], Sample]


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
    sample = _any_size(rng)
    width, height = sample.pictures[0].size
    across, down = TILE / width, TILE / height
    letters = [Letter(one.letter, one.x * across, one.y * down) for one in sample.letters[0]]
    picture = Image.fromarray(tile_image(sample.pictures[0], 1, 1)[0])
    return replace(sample, pictures=[picture], letters=[letters])


def _wide(rng: random.Random) -> Sample:
    columns, rows = rng.choice(
        ((2, 1), (1, 2), (2, 1), (1, 2), (3, 1), (2, 2), (2, 2), (3, 2), (2, 3))
    )
    style = Print((2, 4 + 3 * rows), (22, 48), one_font=rng.random() < 0.6)
    return page_sample(rng, columns * TILE, rows * TILE, style)


def _scene(rng: random.Random) -> Sample:
    side = TILE if rng.random() < 0.6 else rng.randint(200, 640)
    return scene_sample(rng, side, side)


def _simple_scene(rng: random.Random) -> Sample:
    """One or two things: where to look, and how far they reach, is learnt on these."""
    return scene_sample(rng, TILE, TILE, count=2, things=rng.choice((1, 1, 2)))


def _wide_scene(rng: random.Random) -> Sample:
    width, height = rng.choice(
        ((640, 480), (480, 640), (896, 448), (448, 896), (640, 360), (800, 600))
    )
    return scene_sample(rng, width, height, count=4)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "few lines": Kind(12, _few_lines),
        "dense": Kind(10, _dense),
        "any size": Kind(4, _any_size),
        "stretched": Kind(12, _stretched),
        "wide": Kind(3, _wide),
        "scene": Kind(8, _scene),
        "simple scene": Kind(12, _simple_scene),
        "wide scene": Kind(2, _wide_scene),
        "pair": Kind(5, lambda rng: pair_sample(rng, TILE)),
        "video": Kind(3, lambda rng: video_sample(rng, rng.choice((4, 4, 4, 6, 8)))),
    }
)
"""Batches of whole tiles, about twelve a step."""

WINDOW, SHAPES = "window", "shape window"
_WINDOWS = ((1, 4), (1, 6), (2, 4), (3, 4), (2, 6), (1, 8), (4, 4), (2, 8), (4, 8))
_FIRST_WINDOWS = ((1, 2), (1, 3), (1, 4))
_SHAPE_WINDOWS = ((3, 3), (4, 4), (3, 5), (5, 3), (4, 5), (5, 4), (5, 5), (4, 8), (8, 4))

Mixture = Mapping[str, float]
"""How often each kind is drawn."""

MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        # From random weights: reading emerges on small windows, which are cheap.
        "first windows": {"first window": 0.6, SHAPES: 0.4},
        "windows": {WINDOW: 1.0},
        # A vision tower that has learnt alone gets its words: small pictures first.
        "first words": {
            "first window": 0.03,
            WINDOW: 0.27,
            SHAPES: 0.3,
            "few lines": 0.15,
            "dense": 0.03,
            "simple scene": 0.08,
            "scene": 0.06,
            "video": 0.08,
        },
        "all": {
            WINDOW: 0.18,
            "few lines": 0.24,
            "dense": 0.08,
            "any size": 0.02,
            "stretched": 0.06,
            "wide": 0.04,
            SHAPES: 0.14,
            "simple scene": 0.08,
            "scene": 0.09,
            "wide scene": 0.01,
            "pair": 0.02,
            "video": 0.05,
        },
    }
)


@cache
def _encoder() -> Encoder:
    return Encoder()


class Steps(Dataset[Batch]):
    """The batches of a run: step k is the same whenever and wherever it is drawn.

    Args:
        mixture: How often each kind is drawn.
        seed: Seed of the run.
        begin: First step.
        end: Step after the last.
        pad: Id to pad with.
    """

    def __init__(self, mixture: Mixture, seed: int, begin: int, end: int, pad: int) -> None:
        self._mixture = mixture
        self._seed = seed
        self._begin = begin
        self._end = end
        self._pad = pad

    def __len__(self) -> int:
        return self._end - self._begin

    def __getitem__(self, index: int) -> Batch:
        if not 0 <= index < len(self):
            raise IndexError(index)
        rng = random.Random(f"{self._seed}/{self._begin + index}")
        kind = rng.choices(list(self._mixture), list(self._mixture.values()))[0]
        if kind == SHAPES:
            return self._shapes(rng)
        if kind.endswith(WINDOW):
            return self._windows(rng, kind)
        rows = [_encoder().row(KINDS[kind].draw(rng)) for _ in range(KINDS[kind].rows)]
        return collate(kind, rows, self._pad)

    def _windows(self, rng: random.Random, kind: str) -> Batch:
        """Windows of text, somewhere on the tile."""
        rows, columns = rng.choice(_WINDOWS if kind == WINDOW else _FIRST_WINDOWS)
        origin = 2 * rng.randint(0, 8 - rows), 2 * rng.randint(0, 8 - columns)
        many = max(10, min(64, 4000 // (rows * columns * 4 + 60)))
        style = Print((1, 2 * rows), (20, 50))
        drawn = [
            page_sample(rng, columns * CELL, rows * CELL, style, short=rng.random() < 0.8)
            for _ in range(many)
        ]
        return collate(kind, [self._window(sample) for sample in drawn], self._pad, origin)

    def _shapes(self, rng: random.Random) -> Batch:
        """Windows with shapes, somewhere on the tile."""
        rows, columns = rng.choice(_SHAPE_WINDOWS)
        row, column = rng.randint(0, 8 - rows), rng.randint(0, 8 - columns)
        area = (column * CELL, row * CELL, (column + columns) * CELL, (row + rows) * CELL)
        many = max(10, min(40, 7000 // (rows * columns * 5 + 220)))
        drawn = [window_sample(rng, TILE, area) for _ in range(many)]
        return collate(
            SHAPES, [self._window(sample) for sample in drawn], self._pad, (2 * row, 2 * column)
        )

    def _window(self, sample: Sample) -> Row:
        return _encoder().row(sample, whole_tiles=False)
