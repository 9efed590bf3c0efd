"""Store of media that messages refer to by the hash of their bytes.

LangChain reconstructs messages from traces, in which media are references:
`RunnableWithMessageHistory`, for example, stores the inputs that the model's run recorded. Such
messages are usable in this process while the store has their media.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections import OrderedDict

from langchain_internvl.forks import renew_after_fork

PREFIX = "sha256:"


class MediaStore:
    """LRU store of media, by the SHA-256 of their bytes.

    Args:
        max_bytes: Maximum total size in bytes; the least recently used media are evicted first.
            Default 256 MiB.
    """

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._held: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._renew_lock()
        renew_after_fork(self, MediaStore._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def hold(self, data: bytes, sha256: bytes) -> str:
        """Store bytes and their SHA-256, and return their name: "sha256:" and the hash."""
        name = PREFIX + sha256.hex()
        with self._lock:
            if name not in self._held:
                self._size += len(data)
            self._held[name] = data
            self._held.move_to_end(name)
            while self._size > self._max_bytes:
                self._size -= len(self._held.popitem(last=False)[1])
        return name

    def find(self, name: str) -> bytes | None:
        """The bytes with a name; None if they were evicted or never stored."""
        with self._lock:
            return self._held.get(name)


MEDIA_STORE = MediaStore()
"""The store of this process."""


class PasswordStore:
    """Passwords of PDFs by keyed hashes, which replace them in traces.

    Args:
        most: Maximum number of passwords; the least recently used one is forgotten first.
    """

    def __init__(self, most: int = 1024) -> None:
        self._key = secrets.token_bytes(32)
        self._most = most
        self._held: OrderedDict[str, str] = OrderedDict()
        self._renew_lock()
        renew_after_fork(self, PasswordStore._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def hold(self, password: str) -> str:
        """Store a password, and return its name; equal passwords have equal names."""
        name = hmac.new(self._key, password.encode("utf-8", "replace"), "sha256").hexdigest()
        with self._lock:
            self._held[name] = password
            self._held.move_to_end(name)
            while len(self._held) > self._most:
                self._held.popitem(last=False)
        return name

    def find(self, name: str) -> str | None:
        """The password with a name; None if it was forgotten, or never stored in this process."""
        with self._lock:
            return self._held.get(name)


PASSWORDS = PasswordStore()
"""The passwords of this process."""
