"""Size of prefill chunks between the decode steps of running sequences."""

from __future__ import annotations

_STEPS = 3.0
"""Maximum duration of a prefill chunk, in decode steps of the running sequences."""

_FIRST, _LEAST = 64, 32
"""Tokens of the first and of the smallest chunk; fewer are not faster, because each chunk reads all
weights."""

_WEIGHT = 0.3
"""Weight of the last measurement in the moving average."""


class ChunkSizes:
    """Chooses the size of prefill chunks.

    On the CPU a chunk of 512 tokens takes many decode steps, on a GPU about one. So on the CPU the
    size is halved after a chunk that took longer than three steps, and doubled after one that took
    less than half as long.

    Args:
        most: Maximum number of tokens of a chunk.
        is_timed: Whether to adapt to measured times; False: every chunk has the maximum size.
    """

    def __init__(self, most: int, *, is_timed: bool) -> None:
        self._most = most
        self._is_timed = is_timed
        self._size = min(_FIRST, most)
        self._step: float | None = None  # seconds

    def budget(self, *, others_wait: bool) -> int:
        """Tokens of the next chunk.

        Args:
            others_wait: Whether sequences are decoding at the same time.
        """
        return self._size if self._is_timed and others_wait else self._most

    def time_read(self, tokens: int, seconds: float) -> None:
        """Record the duration of a chunk."""
        if self._step is None:
            return
        steps = seconds / self._step
        if steps > _STEPS and tokens <= self._size:
            self._size = max(min(_LEAST, self._most), self._size // 2)
        elif steps < _STEPS / 2 and tokens >= self._size:
            self._size = min(self._most, self._size * 2)

    def time_step(self, seconds: float) -> None:
        """Record the duration of a decode step."""
        mean = self._step
        self._step = seconds if mean is None else mean + _WEIGHT * (seconds - mean)
