"""Prefix cache: keys and values of ended sequences, for the next turn of their conversations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence as Items

    from numpy.typing import NDArray

    from langchain_internvl.backends.transformers.slots import Slot, SlotCache

LEAST = 32
"""Minimum length of a reused prefix, in tokens; shorter ones are prefilled as fast as copied."""

_MOST = 64
"""Maximum number of cached sequences."""


@dataclass(frozen=True)
class ImageSpan:
    """Context tokens of an image in a prompt.

    Attributes:
        start: Index of the first context token.
        length: Number of context tokens.
        key: Key of the image.
    """

    start: int
    length: int
    key: bytes


@dataclass(frozen=True)
class TokenRun:
    """Tokens, with the images of their context tokens.

    Attributes:
        ids: int64 [tokens].
        images: The images, in order.
    """

    ids: NDArray[np.int64]
    images: tuple[ImageSpan, ...]

    def shared_with(self, other: TokenRun) -> int:
        """Length of the common prefix of two runs in tokens, images included.

        All context tokens are equal, so keys and positions of the images are compared too. Hashes
        of the whole run are not used, because they may collide.
        """
        length = min(len(self.ids), len(other.ids))
        differs = self.ids[:length] != other.ids[:length]
        shared = int(differs.argmax()) if differs.any() else length
        for mine, theirs in zip(self.images, other.images, strict=False):
            if mine != theirs:
                return min(shared, mine.start, theirs.start)
        # An image in only one of the runs is where the other has other tokens, or beyond its end;
        # but a text may have context ids without an image.
        both = min(len(self.images), len(other.images))
        rest = [one.start for one in (*self.images[both:], *other.images[both:])]
        return min([shared, *rest])


@dataclass(eq=False)
class KeptSequence:
    """A cached sequence.

    Attributes:
        run: Tokens whose keys and values are cached.
        slot: Slot of the keys and values.
        used: Time stamp of the last use, as a counter.
    """

    run: TokenRun
    slot: Slot
    used: int


class PrefixCache:
    """LRU cache of ended sequences.

    Args:
        slots: Slots of the engine.
        max_bytes: Maximum memory of the cached sequences, in bytes; 0: no cache.

    Attributes:
        hits: Prompts so far with a cached prefix.
        misses: Prompts so far without a cached prefix.
    """

    def __init__(self, slots: SlotCache, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._slots = slots
        self._max_bytes = max_bytes
        self._kept: list[KeptSequence] = []
        self._clock = count()

    @property
    def nbytes(self) -> int:
        """Memory of the cached sequences, in bytes; thread-safe."""
        return sum(one.slot.nbytes for one in list(self._kept))

    def freeable(self) -> int:
        """Bytes that clearing the cache would free; blocks with running sequences stay."""
        kept = Counter(one.slot.block for one in self._kept)
        return sum(
            block.nbytes
            for block, number in kept.items()
            if number + len(block.free) == block.slots
        )

    def find(self, run: TokenRun) -> tuple[KeptSequence, int] | None:
        """The cached sequence with the longest common prefix with a prompt, and its length.

        The last token of a prompt is never included, because its logits must be computed.
        """
        best, most = None, LEAST - 1
        for one in self._kept:
            shared = min(one.run.shared_with(run), len(run.ids) - 1)
            if shared > most:
                best, most = one, shared
        if best is None:
            self.misses += 1
            return None
        self.hits += 1
        best.used = next(self._clock)
        return best, most

    def put(self, run: TokenRun, slot: Slot) -> None:
        """Cache a sequence, or release its slot if it is too short, too large or already cached."""
        if len(run.ids) < LEAST or slot.nbytes > self._max_bytes:
            self._slots.release(slot)
            return
        for one in list(self._kept):  # prefixes of the new sequence are redundant
            if one.run.shared_with(run) == len(one.run.ids):
                self.drop(one)
        slot = self._slots.shrink(slot, len(run.ids))
        self._kept.append(KeptSequence(run, slot, next(self._clock)))
        while self.nbytes > self._max_bytes or len(self._kept) > _MOST:
            self.drop_oldest()

    def take(self, kept: KeptSequence) -> Slot:
        """Remove a sequence from the cache, and return its slot for the new sequence."""
        self._kept.remove(kept)
        return kept.slot

    def drop(self, kept: KeptSequence) -> None:
        """Remove a sequence and release its slot."""
        self._kept.remove(kept)
        self._slots.release(kept.slot)

    def drop_oldest(self, but: KeptSequence | None = None) -> bool:
        """Remove the least recently used sequence.

        Args:
            but: A sequence that is not removed.

        Returns:
            Whether a sequence was removed.
        """
        oldest = min(
            (one for one in self._kept if one is not but), key=lambda one: one.used, default=None
        )
        if oldest is not None:
            self.drop(oldest)
        return oldest is not None

    def clear(self) -> bool:
        """Clear the cache; returns whether it had any sequences."""
        had_any = bool(self._kept)
        for one in list(self._kept):
            self.drop(one)
        return had_any


def spans_of(
    ids: NDArray[np.int64], context_id: int, keys: Items[bytes], lengths: Items[int]
) -> tuple[ImageSpan, ...] | None:
    """The spans of the images of a prompt.

    Args:
        ids: Token ids of the prompt.
        context_id: Id of the context token.
        keys: Keys of the images, in order.
        lengths: Number of context tokens of each image.

    Returns:
        The spans, whose context tokens may be interrupted by text (between frames of a video);
        None if the number of context tokens does not match the images.
    """
    places = np.flatnonzero(ids == context_id)
    if len(places) != sum(lengths):
        return None
    spans, first = [], 0
    for key, length in zip(keys, lengths, strict=True):
        if length:
            start, last = int(places[first]), int(places[first + length - 1])
            spans.append(ImageSpan(start, last - start + 1, key))
        first += length
    return tuple(spans)
