"""Clips that were decoded lately: every turn of a conversation shows its videos again."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING

from langchain_internvl.media.sources import Base64Source, BytesSource, PathSource
from langchain_internvl.media.video_process import Clip, read_clip

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source


class VideoCache:
    """Reads clips, and keeps the last ones.

    Videos are told apart by what they hold: a file by its size and the time of its last change.
    What a URL holds is not known before it is downloaded, so it is downloaded every time.

    Args:
        max_bytes: Most bytes of frames that are kept.
    """

    def __init__(self, max_bytes: int = 256 * 1024 * 1024) -> None:
        self._max_bytes = max_bytes
        self._clips: OrderedDict[Hashable, Clip] = OrderedDict()
        self._lock = threading.Lock()

    def read(
        self,
        source: Source,
        policy: MediaPolicy,
        num_frames: int,
        bound: tuple[float, float] | None,
    ) -> Clip:
        """Take frames from a video; see `read_clip`."""
        content = _content(source)
        if content is None:
            return read_clip(source, policy, num_frames, bound)
        key = (content, policy, num_frames, bound)
        with self._lock:
            kept = self._clips.get(key)
            if kept is not None:
                self._clips.move_to_end(key)
                return kept
        clip = read_clip(source, policy, num_frames, bound)
        with self._lock:
            self._clips[key] = clip
            while sum(map(_size, self._clips.values())) > self._max_bytes:
                self._clips.popitem(last=False)
        return clip


def _content(source: Source) -> Hashable | None:
    """What tells the content of a source apart from others, if that is known."""
    if isinstance(source, BytesSource):
        return hashlib.sha256(source.data).digest()
    if isinstance(source, Base64Source):
        return hashlib.sha256(source.data.encode("utf-8", "replace")).digest()
    if isinstance(source, PathSource):
        return source.fingerprint()
    return None


def _size(clip: Clip) -> int:
    return sum({id(frame): frame.nbytes for frame in clip.frames}.values())
