"""Media that messages refer to by the hash of their bytes.

LangChain makes messages anew from what it traced: `RunnableWithMessageHistory`, for one, stores
what the model's own run recorded, and that holds media by reference. Such messages can be read in
this process while the store holds the media.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from langchain_internvl.forks import renew_after_fork

PREFIX = "sha256:"


class MediaStore:
    """The last media of this process, by the SHA-256 of their bytes.

    Args:
        max_bytes: Most bytes that are held; the least recently used media are dropped first.
    """

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._renew_lock()
        renew_after_fork(self, MediaStore._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def hold(self, data: bytes) -> str:
        """Hold bytes; returns their name, "sha256:" and the hash."""
        name = PREFIX + hashlib.sha256(data).hexdigest()
        with self._lock:
            if name not in self._held:
                self._size += len(data)
            self._held[name] = data
            self._held.move_to_end(name)
            while self._size > self._max_bytes:
                self._size -= len(self._held.popitem(last=False)[1])
        return name

    def find(self, name: str) -> bytes | None:
        """The bytes of a name; None if they are not held any more."""
        with self._lock:
            return self._held.get(name)


MEDIA_STORE = MediaStore()
"""The media of this process."""
