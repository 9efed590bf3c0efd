"""Videos and PDFs that were decoded lately: every turn of a conversation shows them again."""

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

Pictures = tuple["NDArray[np.uint8]", ...]

Medium = TypeVar("Medium", Clip, Pictures)


class MediaReader:
    """Decodes videos and PDFs, and keeps the last ones.

    They are told apart by what they hold: a file by its size and the time of its last change.
    What a URL holds is not known before it is downloaded, so it is downloaded every time. Who
    asks for what another is decoding waits for that one.

    Args:
        max_bytes: Most bytes of pictures that are kept.
    """

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._renew_locks()
        renew_after_fork(self, MediaReader._renew_locks)

    def _renew_locks(self) -> None:
        self._lock = threading.Lock()
        self._reading: WeakValueDictionary[Hashable, _Turn] = WeakValueDictionary()

    def clip(
        self,
        source: Source,
        policy: MediaPolicy,
        num_frames: int,
        bound: tuple[float, float] | None,
        deadline: Deadline,
    ) -> Clip:
        """Take frames from a video; see `read_clip`."""
        shown = "video", num_frames, bound
        return self._read(
            source, policy, shown, lambda: read_clip(source, policy, num_frames, bound, deadline)
        )

    def pages(self, source: Source, policy: MediaPolicy, deadline: Deadline) -> Pictures:
        """Draw the pages of a PDF; see `read_pages`."""
        return self._read(source, policy, "pdf", lambda: read_pages(source, policy, deadline))

    def _read(
        self, source: Source, policy: MediaPolicy, shown: Hashable, read: Callable[[], Medium]
    ) -> Medium:
        content = _content(source)
        if content is None:
            return read()
        key = content, policy, shown
        with self._lock:
            turn = self._reading.setdefault(key, _Turn())
        with turn.lock:
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


class _Turn:
    """Whoever reads a medium has its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()


def _content(source: Source) -> Hashable | None:
    """What tells the content of a source apart from others, if that is known."""
    if isinstance(source, BytesSource):
        return hashlib.sha256(source.data).digest()
    if isinstance(source, Base64Source):
        return hashlib.sha256(source.data.encode("utf-8", "replace")).digest()
    if isinstance(source, PathSource):
        return source.fingerprint()
    return None


def _size(medium: Clip | Pictures) -> int:
    pictures = medium.frames if isinstance(medium, Clip) else medium
    return sum({id(picture): picture.nbytes for picture in pictures}.values())
