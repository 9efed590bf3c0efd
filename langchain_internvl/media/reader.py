"""Cache of decoded videos and PDFs, which every later turn of a conversation needs again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakValueDictionary

from langchain_internvl.forks import renew_after_fork
from langchain_internvl.media.pdf import read_pages
from langchain_internvl.media.sources import Base64Source, BytesSource, PathSource
from langchain_internvl.media.video_process import Clip, read_clip

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

Images = tuple["NDArray[np.uint8]", ...]

Medium = TypeVar("Medium", Clip, Images)


class MediaReader:
    """Decodes videos and PDFs with an LRU cache.

    The cache key is a hash of the bytes; for a file its path, size and modification time. URLs are
    not cached. Concurrent requests for the same medium share one decode.

    Args:
        max_bytes: Maximum size of the cached images in bytes. Default 256 MiB.
    """

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._renew_locks()
        renew_after_fork(self, MediaReader._renew_locks)

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()
        self._reading: WeakValueDictionary[Hashable, _Decode] = WeakValueDictionary()

    def clip(
        self,
        source: Source,
        policy: MediaPolicy,
        num_frames: int,
        bound: tuple[float, float] | None,
        deadline: Deadline,
    ) -> Clip:
        """Frames of a video; see `read_clip`."""
        request = "video", num_frames, bound
        return self._read(
            source, policy, request, lambda: read_clip(source, policy, num_frames, bound, deadline)
        )

    def pages(
        self,
        source: Source,
        policy: MediaPolicy,
        deadline: Deadline,
        pages: Any = None,
        password: str | None = None,
    ) -> Images:
        """Pages of a PDF as images; see `read_pages`."""
        return self._read(
            source,
            policy,
            ("pdf", pages, password),
            lambda: read_pages(source, policy, deadline, pages=pages, password=password),
        )

    def _read(
        self, source: Source, policy: MediaPolicy, request: Hashable, read: Callable[[], Medium]
    ) -> Medium:
        content = _content(source)
        if content is None:
            return read()
        key = content, policy, request
        with self._lock:
            decode = self._reading.setdefault(key, _Decode())
        with decode.lock:
            with self._lock:
                if key in self._kept:
                    self._kept.move_to_end(key)
                    kept: Medium = self._kept[key]
                    return kept
            medium = read()
            with self._lock:
                self._kept[key] = medium
                while sum(map(_size, self._kept.values())) > self._max_bytes:
                    self._kept.popitem(last=False)
        return medium


class _Decode:
    """The lock of one medium while it is decoded; removed when no thread waits for it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def _content(source: Source) -> Hashable | None:
    """Cache key of a source; None for URLs, whose content is unknown before the download."""
    if isinstance(source, BytesSource):
        return hashlib.sha256(source.data).digest()
    if isinstance(source, Base64Source):
        return hashlib.sha256(source.data.encode("utf-8", "replace")).digest()
    if isinstance(source, PathSource):
        return source.fingerprint()
    return None


def _size(medium: Clip | Images) -> int:
    images = medium.frames if isinstance(medium, Clip) else medium
    return sum({id(image): image.nbytes for image in images}.values())
