"""Expands files in turns to images: frames of videos, pages of PDFs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.video_process import check_frames
from langchain_internvl.messages.conversation import Document, Image, Video

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.media.deadline import Deadline
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.reader import MediaReader
    from langchain_internvl.messages.conversation import Part, Turn


@dataclass(frozen=True)
class FileReader:
    """Expands videos and PDFs of turns to images.

    Attributes:
        policy: Limits on media.
        media: Decoder and cache of videos and PDFs.
        deadline: Deadline of the call.
        num_frames: Number of frames of a video file, unless its block sets it.
    """

    policy: MediaPolicy
    media: MediaReader
    deadline: Deadline
    num_frames: int

    def read(self, turn: Turn) -> Turn:
        """A turn with images in place of its files.

        Raises:
            MediaError: A file cannot be read, or exceeds a limit.
            RequestError: The requested time range of a video does not exist.
            RequestTimeoutError: The deadline has passed.
        """
        return replace(turn, parts=tuple(one for part in turn.parts for one in self._read(part)))

    def _read(self, part: Part) -> list[Part]:
        if isinstance(part, Document):
            pages = self.media.pages(
                part.source, self.policy, self.deadline, part.pages, part.password
            )
            kind = "page" if part.pages is None else "selected page"
            images = _images(pages, f"{part.source.name}, {kind}")
            return [
                replace(image, min_tiles=part.min_tiles, max_tiles=part.max_tiles)
                for image in images
            ]
        if not isinstance(part, Video):
            return [part]
        if part.source is None:
            check_frames(len(part.frames), "the list of frames", self.policy)
            return [part]
        num_frames = part.num_frames or self.num_frames
        clip = self.media.clip(part.source, self.policy, num_frames, part.bound, self.deadline)
        frames = _images(clip.frames, f"{part.source.name}, frame")
        return [replace(part, frames=tuple(frames), source=None)]


def _images(arrays: Iterable[NDArray[np.uint8]], name: str) -> list[Image]:
    from PIL.Image import fromarray  # noqa: PLC0415 - imported at first use

    return [
        Image(PixelSource(fromarray(array), f"{name} {number}"))
        for number, array in enumerate(arrays, 1)
    ]
