"""Encoded bytes of a Pillow image that is opened and not decoded yet."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from PIL import Image

from langchain_internvl.errors import InternVLError, MediaError, MediaTooLargeError
from langchain_internvl.media.byte_sources import BytesSource
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.encoded import formats, is_slow, open_image
from langchain_internvl.media.pillow_readers import reference
from langchain_internvl.media.process import decoding

if TYPE_CHECKING:
    from langchain_internvl.media.policy import MediaPolicy

_MOST_CHANGED = 1 << 20
"""Maximum number of pixels of an image of a slow format that was changed after opening."""

_FAST_ANYWAY = frozenset({"GIF", "PNG", "TIFF", "WEBP"})
"""Formats whose speed does not depend on the content of the file."""

_PROGRAMS = frozenset({"EPS", "WMF"})
"""Formats whose readers start other programs, or interpret programs."""


def slow_bytes(
    image: Image.Image, name: str, policy: MediaPolicy, deadline: Deadline
) -> bytes | None:
    """The encoded bytes of a slow image, for decoding in another process.

    Bytes of a supported format are those of its file. Other formats of Pillow, and frames after
    the first, are decoded in another process and returned as PNG or TIFF (see `PixelSource.read`).

    The caller holds the locks of the image and of its file.

    Args:
        image: A Pillow image.
        name: Name in error messages.
        policy: Limits; `max_bytes` applies.
        deadline: Deadline of the call.

    Returns:
        The bytes; None if the image decodes fast, is decoded already, or is of a format whose
        reader no other process can import (see `pillow_readers`). Also None if it was changed
        after opening (`info`) and is not large.

    Raises:
        MediaError: The image is slow, large, and was changed after opening; or it cannot be
            decoded; or reading its format would start a program.
        MediaTooLargeError: The image is slow, and its file exceeds the limit.
    """
    reader = reference(image.format)
    if not _is_undecoded(image) or not (_is_of_pillow(image) or _is_of(image, reader)):
        return None
    if image.format in _PROGRAMS:
        raise MediaError(
            name,
            f"{image.format} files are programs, which are not run here; load the image yourself "
            "(image.load()), or convert it to PNG",
        )
    if image.format in _FAST_ANYWAY and not is_slow(image, b""):
        return None  # without reading the whole file for each of its pages
    data = _read_all(getattr(image, "fp", None), policy.max_bytes + 1)
    if data is None or not is_slow(image, data):
        return None
    if len(data) > policy.max_bytes:
        raise MediaTooLargeError(name, f"larger than MediaPolicy.max_bytes={policy.max_bytes}")
    if image.format in formats() and image.tell() == 0:
        with suppress(InternVLError), open_image(data, name) as anew:
            if identity(anew) == identity(image):
                return data
    return _decode_elsewhere(image, BytesSource(data, name), policy, deadline, reader)


def _decode_elsewhere(
    image: Image.Image,
    source: BytesSource,
    policy: MediaPolicy,
    deadline: Deadline,
    reader: dict[str, Any] | None,
) -> bytes | None:
    """The current frame as PNG or TIFF, decoded in another process; see `slow_bytes`."""
    task = {
        "format": image.format,
        "frame": image.tell(),
        "reduce": getattr(image, "_reduce", 0),
        "layers": getattr(image, "layers", 0),
        "identity": repr(identity(image)),
        "reader": reader,
    }
    with decoding("image_worker", task, source, "image", policy, deadline) as records:
        head = records.head()
        if "lacks_reader" in head:
            return None
        if head["is_same"]:
            return records.data()
    if image.width * image.height <= _MOST_CHANGED:
        return None
    raise MediaError(
        source.name,
        f"the {image.format} image was changed after Image.open(), so that its file cannot be "
        "decoded in a separate process; decode it first (image.load())",
    )


def _is_of_pillow(image: Image.Image) -> bool:
    return type(image).__module__.startswith("PIL.")


def _is_of(image: Image.Image, reader: dict[str, Any] | None) -> bool:
    """Whether an image was opened by the package of a reader."""
    package = type(image).__module__.partition(".")[0]
    return reader is not None and package == reader["reader"][0].partition(".")[0]


def _is_undecoded(image: Image.Image) -> bool:
    fields = vars(image)  # Pillow's property `im` would raise
    return fields.get("_im", fields.get("im")) is None


def _read_all(file: Any, most: int) -> bytes | None:
    """All bytes of a file object, whose position is restored; None if it cannot be read."""
    try:
        position = file.tell()
        file.seek(0)
        data = file.read(most)
        file.seek(position)
    except (AttributeError, OSError, ValueError):
        return None
    return data if isinstance(data, bytes) else None


def identity(image: Image.Image) -> tuple[Any, ...]:
    """Attributes that determine the decoded pixels of an image, as known before decoding."""
    info = image.info
    tiles = [tuple(one) for one in getattr(image, "tile", ())]
    if image.format == "JPEG2000":  # the last arguments are number and length of the open file
        tiles = [(*one[:3], one[3][:3]) for one in tiles]
        tiles.append((getattr(image, "_reduce", 0), getattr(image, "layers", 0)))
    if image.format == "TIFF":  # libtiff's arguments have the number of the open file
        tiles = [one[:3] if one[0] == "libtiff" else one for one in tiles]
    return (
        image.format, image.mode, image.size, image.tell(), tiles,
        info.get("transparency"), info.get("exif"),
    )  # fmt: skip
