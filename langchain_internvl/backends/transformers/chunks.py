"""How many tokens of prompts are read between two steps of running sequences."""

from __future__ import annotations

_STEPS = 3.0
"""Decode steps that running sequences may wait for a chunk: a pause of three words."""

_FIRST, _LEAST = 64, 32
"""Tokens of the first and of the smallest chunk: fewer take about as long, as the weights have to
be read for each chunk."""

_WEIGHT = 0.3
"""Of the last measurement in a running mean."""


class ChunkSizes:
    """Chooses the size of chunks.

    On the CPU a chunk of 512 tokens takes many decode steps, on a GPU about one. So on the CPU the
    size is halved after a chunk that took longer than three steps, and doubled after one that took
    less than half as long.

    Args:
        most: Tokens of the largest chunk.
        is_timed: Whether to go by measured times; without, every chunk is the largest.
    """

    def __init__(self, most: int, *, is_timed: bool) -> None:
        self._most = most
        self._is_timed = is_timed
        self._size = min(_FIRST, most)
        self._step: float | None = None  # seconds

    def budget(self, *, others_wait: bool) -> int:
        """Tokens of the next chunk.

        Args:
            others_wait: Whether sequences decode meanwhile.
        """
        return self._size if self._is_timed and others_wait else self._most

    def time_read(self, tokens: int, seconds: float) -> None:
        """Note how long a chunk took."""
        if self._step is None:
            return
        steps = seconds / self._step
        if steps > _STEPS and tokens <= self._size:
            self._size = max(min(_LEAST, self._most), self._size // 2)
        elif steps < _STEPS / 2 and tokens >= self._size:
            self._size = min(self._most, self._size * 2)

    def time_step(self, seconds: float) -> None:
        """Note how long a decode step took."""
        mean = self._step
        self._step = seconds if mean is None else mean + _WEIGHT * (seconds - mean)
