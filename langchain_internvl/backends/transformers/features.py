"""Features of images, kept: an image that is asked about again is not encoded again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class FeatureCache:
    """Vision features by image, least recently used first out.

    They are kept per image, as computed with no other image beside it, so a feature depends on its
    image alone, and any prompt with that image finds it.

    Args:
        max_bytes: Most memory of all features together; 0: keep none.

    Attributes:
        hits: How often features were found.
        misses: How often they had to be made.
        nbytes: Memory of the features that are kept, in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = self.nbytes = 0
        self._features: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def get(self, key: bytes) -> torch.Tensor | None:
        """The features of an image [context tokens, hidden size], if they are kept."""
        found = self._features.get(key)
        if found is None:
            return None
        self.hits += 1
        self._features.move_to_end(key)
        return found

    def put(self, key: bytes, features: torch.Tensor) -> None:
        """Keep features; those that are used least go, and what is over the limit is not kept."""
        if features.nbytes > self.max_bytes or key in self._features:
            return
        self._features[key] = features
        self.nbytes += features.nbytes
        while self.nbytes > self.max_bytes:
            _, oldest = self._features.popitem(last=False)
            self.nbytes -= oldest.nbytes

    def clear(self) -> None:
        """Forget all features."""
        self._features.clear()
        self.nbytes = 0
