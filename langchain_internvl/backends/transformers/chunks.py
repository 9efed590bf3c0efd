"""Size of prefill chunks between the decode steps of running sequences."""

from __future__ import annotations

from collections import deque

_STEPS = 1.75
"""Duration of the prefill between two decode steps, in decode steps. With the decode step itself, a
running reply pauses for two and three quarters of its steps; after the end of a prompt for more
than three, because the next step decodes one more sequence.

Measured by the rows `pause` and `together` of `benchmarks`: 1.5 steps 3.0 and 0.314, 1.75 steps 3.5
and 0.280, 2 steps 3.7 and 0.243. Each chunk reads all weights, so small ones cost throughput."""

_LEAST_TIME = 0.02
"""Duration in seconds that the prefill may always take. No reader notices such a pause, and a small
model, whose passes take the same few milliseconds for 16 and for 100 tokens, reads prompts in few
passes: with eight pages in flight, 7 passes of 4 ms read a prompt that one of 9 ms could.
"""

_LEAST = 16
"""Tokens of the smallest chunk, and of the first, before which nothing is known about the model.
Fewer are not faster, because each chunk reads all weights. Other chunks are multiples of this, as
`cpu_products` computes further rows with padding.

Measured on a 0.5B model, in decode steps of 60 ms: 8 tokens 1.1, 16 tokens 1.3, 20 tokens 2.2."""

_GROWTH, _SHRINKAGE = 1.5, 0.5
"""Largest and smallest factor from one chunk to the next: a measurement may be off."""

_LAST = 0.75
"""Largest share of a chunk that also computes the logits of the first token. If the layers are few
and the vocabulary is large, the logits take as long as a decode step."""

_RECENT = 8
"""Number of decode steps of which the fastest counts. The others may have shared the processor with
the vision tower or with other programs, and a chunk must not grow with such delays."""


class ChunkSizes:
    """Chooses the size of prefill chunks.

    On the CPU a chunk of 512 tokens takes many decode steps, on a GPU about one. So on the CPU the
    size follows the measured times: a chunk takes about 1.75 decode steps.

    Args:
        most: Maximum number of tokens of a chunk.
        is_timed: Whether to adapt to measured times; False: every chunk has the maximum size.
    """

    def __init__(self, most: int, *, is_timed: bool) -> None:
        self._most = most
        self._is_timed = is_timed
        self._size = float(min(_LEAST, most))
        self._recent: deque[float] = deque(maxlen=_RECENT)  # decode steps, in seconds
        self._read: tuple[int, float] | None = None  # tokens and seconds of the last chunk

    @property
    def _least(self) -> int:
        return min(_LEAST, self._most)

    @property
    def _most_time(self) -> float:
        """Duration of the prefill between two decode steps, in seconds."""
        return max(_STEPS * min(self._recent), _LEAST_TIME)

    def budget(self, *, others_wait: bool) -> int:
        """Tokens that may be read before the next decode step.

        Args:
            others_wait: Whether sequences are decoding at the same time.
        """
        if not (self._is_timed and others_wait):
            return self._most
        if self._read is not None and self._recent:
            tokens, seconds = self._read
            # The size at which the last chunk would have taken the time that it may take.
            wanted = tokens * self._most_time / max(seconds, 1e-9)
            wanted = min(max(wanted, self._size * _SHRINKAGE), self._size * _GROWTH)
            self._size = min(max(wanted, self._least), self._most)
            self._read = None
        return max(int(self._size) // _LEAST * _LEAST, self._least)

    def reads_beside_images(self, *, others_wait: bool) -> bool:
        """Whether a part of a prompt is read while the next image of that prompt is encoded.

        On the CPU a chunk beside the vision tower takes two to three times as long, and nothing is
        gained: both share the cores.

        Args:
            others_wait: See `budget`.
        """
        return not (self._is_timed and others_wait)

    def left(self, tokens: int, seconds: float) -> int:
        """Tokens that other prompts may still read before the next decode step.

        Each prompt costs a pass of its own, and its end the logits, so that many short prompts
        take longer than their tokens say.

        Args:
            tokens: Rest of the budget.
            seconds: Duration of what was read before this decode step.
        """
        if not (self._is_timed and self._recent):
            return tokens
        share = 1 - seconds / self._most_time
        rest = min(tokens, int(self._size * share))
        return rest if rest >= self._least else 0

    def share(self, budget: int, rest: int) -> int:
        """Tokens of a prompt to read within a budget, with room for the logits at its end.

        Args:
            budget: Tokens that may be read.
            rest: Tokens that the prompt has left.
        """
        is_full = self._is_timed and _LAST * budget < rest <= budget
        return (rest + 1) // 2 if is_full and rest >= 2 * self._least else budget

    def time_read(self, tokens: int, seconds: float) -> None:
        """Record the duration of a chunk that computed no logits."""
        if tokens >= self._least:  # short ones are mostly overhead
            self._read = tokens, seconds

    def time_step(self, seconds: float) -> None:
        """Record the duration of a decode step."""
        self._recent.append(seconds)
