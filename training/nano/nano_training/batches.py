"""Samples side by side, as tensors that a training step takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nano_training.sizes import TILE

IGNORED = -100


@dataclass(frozen=True)
class Row:
    """A sample as a model reads it.

    Attributes:
        tiles: uint8 [n, height, width, 3].
        ids: The prompt and all questions with their answers.
        labels: The ids of answers; elsewhere IGNORED.
        segments: 0 for what all questions see, k for the k-th question.
        known: float32 [context tokens, FACTS], what each should know (`things`).
        pointers: Places where a token is written that is about something.
        goals: Which heads are told so (`pointing.Goal`), of each pointer.
        targets: bool [pointers, length of ids], true where that is.
        gap: Where the text after the pictures begins, and how many positions are left out before
            it, as if tiles of nothing stood there.
        located: Places of the letters of names that are located.
        sides: float32 [located, 4]: where the left, top, right and bottom of what is named are, as
            shares of the picture, as far as each letter should know; NaN: it should not.
    """

    tiles: NDArray[np.uint8]
    ids: list[int]
    labels: list[int]
    segments: list[int]
    known: NDArray[np.float32]
    pointers: list[int]
    goals: list[int]
    targets: NDArray[np.bool_]
    gap: tuple[int, int] = (0, 0)
    located: list[int] = field(default_factory=list)
    sides: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))


@dataclass(frozen=True)
class Batch:
    """Rows side by side.

    Attributes:
        kind: What kind of samples they are.
        tiles: uint8 [n, height, width, 3], of all rows.
        origin: Patch of the tile where windows begin, (row, column).
        ids: int64 [rows, length].
        labels: int64 [rows, length].
        segments: int64 [rows, length]: as of `Row`; -1 for padding.
        known: float32 [context tokens, FACTS], of all rows.
        pointers: int64 [m], of all rows, as places in `ids` row by row.
        goals: int64 [m].
        targets: bool [m, length].
        gaps: int64 [rows, 2]: as of `Row`.
        located: int64 [n], of all rows, as places in `ids` row by row.
        sides: float32 [n, 4]: as of `Row`.
        features: What a frozen vision tower makes of the tiles, [n, tokens, width]; None: unknown.
    """

    kind: str
    tiles: Tensor
    origin: tuple[int, int]
    ids: Tensor
    labels: Tensor
    segments: Tensor
    known: Tensor
    pointers: Tensor
    goals: Tensor
    targets: Tensor
    gaps: Tensor
    located: Tensor
    sides: Tensor
    features: Tensor | None = None

    @property
    def window(self) -> tuple[int, int]:
        """Height and width of its tiles in pixels."""
        return self.tiles.shape[1], self.tiles.shape[2]

    @property
    def is_whole(self) -> bool:
        """Whether it shows whole tiles; else windows, which are parts of them."""
        return self.window == (TILE, TILE)

    @property
    def positions(self) -> Tensor:
        """How far into what it sees each token is, gaps counted: int64 [rows, length]."""
        segments = self.segments
        places = torch.arange(segments.shape[1], device=segments.device).expand_as(segments)
        shared = (segments == 0).sum(1, keepdim=True)
        # How far into its own segment each token is.
        begins = (segments > 0) & (segments != segments.roll(1, 1))
        starts = torch.where(begins, places, 0).cummax(1).values
        begin, left_out = self.gaps[:, :1], self.gaps[:, 1:]
        skipped = torch.where(places >= begin, left_out, 0)
        return skipped + torch.where(segments > 0, shared + places - starts, places)

    @property
    def mask(self) -> Tensor:
        """True where a token (third axis) sees another: bool [rows, 1, length, length]."""
        rows, length = self.segments.shape
        places = torch.arange(length, device=self.segments.device).expand(rows, -1)
        return _sees(self.segments, self.segments, places)[:, None]

    def seen_from(self, row: int, places: Tensor) -> Tensor:
        """What some tokens of a row see: bool [n, length], rows of `mask`."""
        return _sees(self.segments[row], self.segments[row, places], places)

    def looked_at(self, pointers: Tensor, context: int) -> Tensor:
        """The first context token that each pointer is to look at.

        Args:
            pointers: int64 [n], numbers of pointers whose targets are context tokens.
            context: Id of context tokens.

        Returns:
            int64 [n], how many context tokens of its row stand before it.
        """
        places = self.targets[pointers].int().argmax(1, keepdim=True)
        rows = self.pointers[pointers] // self.ids.shape[1]
        before = (self.ids == context).cumsum(1)[rows]
        return before.gather(1, places)[:, 0] - 1

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device; from pinned memory without waiting for it."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory; a `DataLoader` calls this."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Batch:
        values: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        tensors = {name: one for name, one in values.items() if isinstance(one, Tensor)}
        changed: dict[str, Any] = {name: change(one) for name, one in tensors.items()}
        return replace(self, **changed)


def _sees(segments: Tensor, own: Tensor, places: Tensor) -> Tensor:
    """What tokens of segments `own` at places see: themselves, and what is before them and theirs.

    Args:
        segments: int64 [..., length].
        own: int64 [..., n].
        places: int64 [..., n].

    Returns:
        bool [..., n, length].
    """
    all_ = segments.unsqueeze(-2)
    before = torch.arange(segments.shape[-1], device=segments.device) <= places.unsqueeze(-1)
    return ((all_ == 0) | (all_ == own.unsqueeze(-1))) & before


def collate(kind: str, rows: Sequence[Row], pad: int, origin: tuple[int, int] = (0, 0)) -> Batch:
    """Rows side by side, padded at the end."""
    length = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), length), pad)
    labels = torch.full((len(rows), length), IGNORED)
    segments = torch.full((len(rows), length), -1)
    for index, row in enumerate(rows):
        size = len(row.ids)
        ids[index, :size] = torch.tensor(row.ids)
        labels[index, :size] = torch.tensor(row.labels)
        segments[index, :size] = torch.tensor(row.segments)
    tiles = torch.from_numpy(np.concatenate([row.tiles for row in rows]))
    known = torch.from_numpy(np.concatenate([row.known for row in rows]))
    pointers = torch.tensor(
        [index * length + place for index, row in enumerate(rows) for place in row.pointers],
        dtype=torch.int64,
    )
    goals = torch.tensor([goal for row in rows for goal in row.goals], dtype=torch.int64)
    targets = torch.zeros((len(pointers), length), dtype=torch.bool)
    done = 0
    for row in rows:
        targets[done : done + len(row.pointers), : len(row.ids)] = torch.from_numpy(row.targets)
        done += len(row.pointers)
    gaps = torch.tensor([row.gap for row in rows])
    located = torch.tensor(
        [index * length + place for index, row in enumerate(rows) for place in row.located],
        dtype=torch.int64,
    )
    sides = torch.from_numpy(np.concatenate([row.sides for row in rows]))
    return Batch(
        kind,
        tiles,
        origin,
        ids,
        labels,
        segments,
        known,
        pointers,
        goals,
        targets,
        gaps,
        located,
        sides,
    )
