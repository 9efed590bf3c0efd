"""Makes LangChain content blocks of images, videos and PDFs from Python objects."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, TypeAlias

import numpy as np

from langchain_internvl.errors import MediaError, UnsupportedMediaError
from langchain_internvl.media.images import read_size, sniff_mime_type
from langchain_internvl.media.page_ranges import Pages, parse_pages
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.media.signatures import is_pdf, name_of
from langchain_internvl.media.sources import Source, UrlSource, is_file_object, to_source
from langchain_internvl.media.tiling import TileLimits
from langchain_internvl.media.video_process import check_frames
from langchain_internvl.messages.block_fields import to_video
from langchain_internvl.messages.blocks import read_frames
from langchain_internvl.messages.conversation import Image, Video

AnyBlock: TypeAlias = Any
"""A dictionary `dict[str, Any]`. LangChain's types take dictionaries in `content` and TypedDicts in
`content_blocks`; no other type than Any is both."""


def image_block(
    image: Any,
    *,
    max_tiles: int | None = None,
    min_tiles: int | None = None,
    policy: MediaPolicy | None = None,
) -> AnyBlock:
    """A LangChain v1 content block of an image.

    Args:
        image: A path, bytes, a binary file object, a data or http(s) URL, a PIL image or a uint8
            array [height, width, 3]. All but http(s) URLs are read at once, validated as an image,
            and stored in the block.
        max_tiles: Maximum number of tiles of this image; None: the model's setting.
        min_tiles: Minimum number of tiles of this image; None: the model's setting.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block with `url`, or with `base64` and `mime_type`.

    Raises:
        MediaError: The image cannot be read.
        RequestError: The limits of tiles are impossible.
    """
    policy = policy or MediaPolicy()
    part = Image(to_source(image, "image_block()"), min_tiles, max_tiles)
    TileLimits().narrowed(min_tiles, max_tiles)  # checks them
    if not isinstance(part.source, UrlSource):
        read_size(part.source, policy)
    return _image_block(part, policy)


def video_block(
    video: Any,
    *,
    num_frames: int | None = None,
    bound: tuple[float, float] | None = None,
    max_tiles: int | None = None,
    policy: MediaPolicy | None = None,
) -> AnyBlock:
    """A content block of a video.

    Args:
        video: A video file, as a path, bytes, a binary file object, or a data or http(s) URL; or
            its frames in order, as a list of image blocks and of anything that `image_block`
            takes, or a uint8 array [frames, height, width, 3], all of which are used. All but
            http(s) URLs are read at once and stored in the block. (To leave a large file on disk,
            write `{"type": "video", "path": ...}` instead.)
        num_frames: Number of frames sampled from a file; None: the model's setting.
        bound: Time range of a file that frames are sampled from, start and end in seconds; None:
            the whole video.
        max_tiles: Maximum number of tiles of each frame; None: the model's `max_tiles_per_frame`.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block of type `video`: with `url`, with `base64` and `mime_type`, or with `frames`, a
        list of v1 image blocks.

    Raises:
        MediaError: The file or a frame cannot be read.
        MediaTooLargeError: The file exceeds a limit of the policy.
        MessageError: There are no frames, or `num_frames`, `bound` or `max_tiles` is invalid.
        UnsupportedMediaError: `video` is neither a file nor a list of frames.
    """
    policy = policy or MediaPolicy()
    settings = {"num_frames": num_frames, "bound": bound, "max_tiles": max_tiles}
    is_file = isinstance(video, (str, PathLike, bytes, bytearray, memoryview))
    if is_file or is_file_object(video):
        file = to_video({"path": video, **settings}, "video_block()")
        return _video_block(file, policy)
    if not isinstance(video, (Sequence, np.ndarray)):
        raise UnsupportedMediaError(
            "video_block()", f"takes a file or a list of frames, not a {type(video).__name__}"
        )
    if isinstance(video, np.ndarray) and video.ndim != 4:
        raise UnsupportedMediaError(
            "video_block()", f"frames are an array [frames, height, width, 3], not {video.shape}"
        )
    check_frames(len(video), "video_block()", policy)
    frames = read_frames(video, "video_block()")
    return _video_block(to_video({"frames": frames, **settings}, "video_block()"), policy)


def pdf_block(
    pdf: Any,
    *,
    pages: Pages = None,
    password: str | None = None,
    max_tiles: int | None = None,
    min_tiles: int | None = None,
    policy: MediaPolicy | None = None,
) -> AnyBlock:
    """A LangChain v1 content block of a PDF, whose pages become images.

    Args:
        pdf: A path, bytes, a binary file object, or a data or http(s) URL. All but http(s)
            URLs are read at once and stored in the block.
        pages: Which pages are shown: indices from 0, a range or slice of them, or page numbers
            from 1 as text, such as "1-3, 7, 10-". None: all.
        password: Password of an encrypted file. The block holds it; traces and caches of the
            model's runs do not.
        max_tiles: Maximum number of tiles of each page; None: the model's setting.
        min_tiles: Minimum number of tiles of each page; None: the model's setting.
        policy: Limits on what is read; None: the defaults of `MediaPolicy`.

    Returns:
        A block of type `file` with `url`, or with `base64` and `mime_type`.

    Raises:
        MediaError: The file cannot be read, or is no PDF.
        RequestError: The limits of tiles are impossible, or `pages` names no pages.
    """
    policy = policy or MediaPolicy()
    shown = pages if isinstance(pages, str) else parse_pages(pages)
    parse_pages(shown)  # checks a text
    source = to_source(pdf, "pdf_block()")
    TileLimits().narrowed(min_tiles, max_tiles)  # checks them
    if not isinstance(source, UrlSource) and not is_pdf(head := source.read(policy)):
        kind = name_of(head) if head else "empty"
        raise MediaError(source.name, f"is no PDF; it is {kind}")
    data = _data(source, policy, "application/pdf")
    limits = _set(
        {"min_tiles": min_tiles, "max_tiles": max_tiles, "pages": shown, "password": password}
    )
    return {"type": "file", **data, "mime_type": "application/pdf", **limits}


def _image_block(image: Image, policy: MediaPolicy) -> dict[str, Any]:
    limits = {"min_tiles": image.min_tiles, "max_tiles": image.max_tiles}
    return {"type": "image", **_data(image.source, policy, "image/png"), **_set(limits)}


def _video_block(video: Video, policy: MediaPolicy) -> dict[str, Any]:
    if video.source is None:
        shown: dict[str, Any] = {"frames": [_image_block(frame, policy) for frame in video.frames]}
    else:
        shown = _data(video.source, policy.for_videos(), "video/mp4")
    return {"type": "video", **shown, **_set(video.settings)}


def _set(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def _data(source: Source, policy: MediaPolicy, fallback: str) -> dict[str, Any]:
    if isinstance(source, UrlSource):
        return {"url": source.url}
    data = source.read(policy)
    return {
        "base64": base64.b64encode(data).decode("ascii"),
        # Broken data gets a MIME type too: LangChain cannot trace blocks without one.
        "mime_type": sniff_mime_type(data) or fallback,
    }
