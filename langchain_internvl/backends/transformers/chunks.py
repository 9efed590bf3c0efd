"""How many tokens of prompts are read between two steps of running sequences."""

from __future__ import annotations

_STEPS = 2.0
"""Decode steps that running sequences wait for a chunk: a pause of two words is not noticed."""

_LEAST = 16

_WEIGHT = 0.3
"""Of the last measurement in a running mean."""


class ChunkSizes:
    """Chooses the size of chunks.

    On the CPU a chunk of 512 tokens takes many decode steps, on a GPU about one. So on the CPU the
    chunk is as large as what is read in the time of two decode steps, a power of two.

    Args:
        most: Tokens of the largest chunk.
        is_timed: Whether to go by measured times; without, every chunk is the largest.
    """

    def __init__(self, most: int, *, is_timed: bool) -> None:
        self._most = most
        self._is_timed = is_timed
        self._step: float | None = None  # seconds
        self._token: float | None = None  # seconds of a token of a prompt

    def budget(self, *, others_wait: bool) -> int:
        """Tokens of the next chunk.

        Args:
            others_wait: Whether sequences decode meanwhile.
        """
        if not (self._is_timed and others_wait and self._step and self._token):
            return self._most
        tokens = max(_LEAST, int(_STEPS * self._step / self._token))
        return min(self._most, 1 << (tokens.bit_length() - 1))

    def time_read(self, tokens: int, seconds: float) -> None:
        """Note how long a chunk took."""
        self._token = _mean(self._token, seconds / tokens)

    def time_step(self, seconds: float) -> None:
        """Note how long a decode step took."""
        self._step = _mean(self._step, seconds)


def _mean(mean: float | None, value: float) -> float:
    return value if mean is None else mean + _WEIGHT * (value - mean)
