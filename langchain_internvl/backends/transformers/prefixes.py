"""Keys and values of sequences that have ended, kept for the next turn of their conversations."""

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
"""Fewest tokens that are worth reusing: fewer are read as fast as they are copied."""

_MOST = 64
"""Most sequences that are kept."""


@dataclass(frozen=True)
class ImageSpan:
    """Context tokens of an image in a prompt.

    Attributes:
        start: The first one's place.
        length: Their number.
        key: The image's key.
    """

    start: int
    length: int
    key: bytes


@dataclass(frozen=True)
class TokenRun:
    """Tokens, and the images that their context tokens stand for.

    Attributes:
        ids: int64 [tokens].
        images: The images, in order.
    """

    ids: NDArray[np.int64]
    images: tuple[ImageSpan, ...]

    def shared_with(self, other: TokenRun) -> int:
        """How many tokens two runs have in common from the start, images included.

        Context tokens are all equal, so the images' keys and places are compared too; a hash of
        the whole is no identity and is not used.
        """
        length = min(len(self.ids), len(other.ids))
        differs = self.ids[:length] != other.ids[:length]
        shared = int(differs.argmax()) if differs.any() else length
        for mine, theirs in zip(self.images, other.images, strict=False):
            if mine != theirs:
                return min(shared, mine.start, theirs.start)
        # An image that only one of them has stands where the other has other tokens, or beyond its
        # end; but a text may hold context ids of no image.
        both = min(len(self.images), len(other.images))
        rest = [one.start for one in (*self.images[both:], *other.images[both:])]
        return min([shared, *rest])


@dataclass(eq=False)
class KeptSequence:
    """A sequence that has ended.

    Attributes:
        run: Its tokens whose keys and values are kept.
        slot: Where they are.
        used: Higher for those that were used later.
    """

    run: TokenRun
    slot: Slot
    used: int


class PrefixCache:
    """Sequences that have ended, least recently used first out.

    Args:
        slots: Where keys and values are.
        max_bytes: Most memory of what is kept; 0: keep nothing.

    Attributes:
        hits: Prompts so far whose beginning was found.
        misses: Prompts so far of which nothing was found.
    """

    def __init__(self, slots: SlotCache, max_bytes: int) -> None:
        self.hits = self.misses = 0
        self._slots = slots
        self._max_bytes = max_bytes
        self._kept: list[KeptSequence] = []
        self._clock = count()

    @property
    def nbytes(self) -> int:
        """Memory of what is kept, in bytes; any thread may ask."""
        return sum(one.slot.nbytes for one in list(self._kept))

    def freeable(self) -> int:
        """Bytes that would be free if nothing were kept: blocks may hold other sequences too."""
        kept = Counter(one.slot.block for one in self._kept)
        return sum(
            block.nbytes
            for block, number in kept.items()
            if number + len(block.free) == block.slots
        )

    def find(self, run: TokenRun) -> tuple[KeptSequence, int] | None:
        """The kept sequence that shares most tokens with a prompt, and their number.

        The last token of a prompt is never counted: its scores have to be computed.
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
        """Keep a sequence, or release its slot if it is too short, too large, or known."""
        if len(run.ids) < LEAST or slot.nbytes > self._max_bytes:
            self._slots.release(slot)
            return
        for one in list(self._kept):  # what is a beginning of it adds nothing
            if one.run.shared_with(run) == len(one.run.ids):
                self.drop(one)
        slot = self._slots.shrink(slot, len(run.ids))
        self._kept.append(KeptSequence(run, slot, next(self._clock)))
        while self.nbytes > self._max_bytes or len(self._kept) > _MOST:
            self.drop_oldest()

    def take(self, kept: KeptSequence) -> Slot:
        """The slot of a kept sequence, which goes on in it."""
        self._kept.remove(kept)
        return kept.slot

    def drop(self, kept: KeptSequence) -> None:
        """Forget a sequence and release its slot."""
        self._kept.remove(kept)
        self._slots.release(kept.slot)

    def drop_oldest(self, but: KeptSequence | None = None) -> bool:
        """Forget what was used longest ago.

        Args:
            but: A sequence that stays.

        Returns:
            Whether there was one.
        """
        oldest = min(
            (one for one in self._kept if one is not but), key=lambda one: one.used, default=None
        )
        if oldest is not None:
            self.drop(oldest)
        return oldest is not None

    def clear(self) -> bool:
        """Forget everything; whether there was anything."""
        had_any = bool(self._kept)
        for one in list(self._kept):
            self.drop(one)
        return had_any


def spans_of(
    ids: NDArray[np.int64], context_id: int, keys: Items[bytes], lengths: Items[int]
) -> tuple[ImageSpan, ...] | None:
    """Where the images of a prompt are.

    Args:
        ids: The prompt.
        context_id: Id of a context token.
        keys: The images' keys, in order.
        lengths: Context tokens of each.

    Returns:
        Their spans, of which the context tokens may lie in several pieces (tiles of a video with
        words between them); None if there are other numbers of tokens than the images need.
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
