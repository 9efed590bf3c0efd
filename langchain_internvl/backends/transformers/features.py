"""Cache of vision features: a further question about an image does not encode it again."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class FeatureCache:
    """LRU cache of vision features by image.

    Each image is encoded separately, so its features depend on the image alone and are valid in
    any prompt.

    Args:
        max_bytes: Maximum memory of all features, in bytes; 0: no cache.

    Attributes:
        hits: Number of lookups that found features.
        misses: Number of lookups that did not.
        nbytes: Memory of the cached features, in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.hits = self.misses = self.nbytes = 0
        self._features: OrderedDict[bytes, torch.Tensor] = OrderedDict()

    def get(self, key: bytes) -> torch.Tensor | None:
        """The cached features of an image [context tokens, hidden size]; None: not cached."""
        found = self._features.get(key)
        if found is None:
            return None
        self.hits += 1
        self._features.move_to_end(key)
        return found

    def put(self, key: bytes, features: torch.Tensor) -> None:
        """Cache features; evicts the least recently used, and skips features over the limit."""
        if features.nbytes > self.max_bytes or key in self._features:
            return
        self._features[key] = features
        self.nbytes += features.nbytes
        while self.nbytes > self.max_bytes:
            _, oldest = self._features.popitem(last=False)
            self.nbytes -= oldest.nbytes

    def clear(self) -> None:
        """Remove all features."""
        self._features.clear()
        self.nbytes = 0
