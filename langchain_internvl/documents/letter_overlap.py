"""Bounds on the similarity of a text to all parts of another, from few comparisons.

The similarity of two texts (Indel, as of `rapidfuzz.fuzz.ratio`) is 2 c / (n + k), where c is the
length of their longest common subsequence, and n and k are their lengths. One pass over a text
gives c of all its beginnings, bit-parallel (Hyyro, "Bit-parallel LCS-length computation revisited",
2004). A part that begins d letters later has no more in common, so its similarity is at most
2 c / (n + k - d): where that is too little, the next d letters are no beginning of similar text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_SLACK = 1e-6
"""Far more than the rounding of a similarity; bounds are wider by it."""


class LetterOverlap:
    """Compares a statement with texts.

    Args:
        letters: The statement's letters; at least one.
    """

    def __init__(self, letters: str) -> None:
        self._length = len(letters)
        self._all = (1 << self._length) - 1
        self._places: dict[str, int] = {}
        for place, letter in enumerate(letters):
            self._places[letter] = self._places.get(letter, 0) | (1 << place)

    def with_beginnings(self, text: str) -> list[int]:
        """Lengths of the longest common subsequence with the first 0, 1, ... letters of a text.

        Args:
            text: The text.

        Returns:
            len(text) + 1 lengths.
        """
        common = [0]
        free = self._all
        for letter in text:
            matched = free & self._places.get(letter, 0)
            free = ((free + matched) | (free - matched)) & self._all
            common.append(self._length - free.bit_count())
        return common

    def may_reach(self, common: Sequence[int], size: int, least: float) -> bool:
        """Whether the similarity to the first `size` letters of a text may be `least` or more.

        Args:
            common: Of `with_beginnings`.
            size: Number of letters.
            least: Similarity, 0 to 1.
        """
        return 2 * common[size] >= least * (self._length + size) - _SLACK

    def skipped(self, common: Sequence[int], least: float, longest: int) -> int:
        """Number of letters after which the next similar part of a page may begin.

        Args:
            common: Of `with_beginnings`, of the page from a place on.
            least: Least similarity of a similar part, above 0 and up to 1.
            longest: Most letters of a part; `common` has as many, or up to the end of the page.

        Returns:
            0: at the place itself; n: no part that begins less than n letters after it has the
            similarity.
        """
        size = len(common) - 1
        # A part up to letter k that begins d letters later: 2 c / (n + k - d) >= least.
        within = min(
            self._length + place - 2 * one / least for place, one in enumerate(common) if place
        )
        # A part that ends d letters beyond: each of these adds at most one to c.
        beyond = least * (self._length + longest) / 2 - common[-1] if size == longest else within
        return max(0, math.ceil(min(within, beyond) - _SLACK))
