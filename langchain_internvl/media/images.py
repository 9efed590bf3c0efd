"""Decodes images to RGB pixels, bit-identical to the reference.

The reference is one line, `Image.open(file).convert("RGB")`: alpha is dropped and not blended,
16-bit grey saturates at 255, EXIF orientation is ignored, animations give their first frame. Here
the same line runs after checks for untrusted files; slow formats are decoded in a separate process
with a deadline and a memory limit.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, TypeVar

from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.pixel_source import PixelSource
from langchain_internvl.media.pixels import check_size, read_orientation
from langchain_internvl.media.process import decoding
from langchain_internvl.media.sources import BytesSource

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from PIL import Image

    from langchain_internvl.media.encoded import ReadOptions
    from langchain_internvl.media.policy import MediaPolicy
    from langchain_internvl.media.sources import Source

_Value = TypeVar("_Value")


def load_rgb(
    source: Source,
    policy: MediaPolicy,
    *,
    exif_transpose: bool = False,
    scale_16bit: bool = False,
    white_background: bool = False,
    deadline: Deadline | None = None,
) -> Image.Image:
    """Decode an image to RGB.

    Args:
        source: Where the image comes from.
        policy: Limits on bytes, pixels and, for slow formats, seconds.
        exif_transpose: Apply the EXIF orientation. The reference ignores it; phone photographs
            often need it.
        scale_16bit: Scale grey of more than 8 bits, see `to_rgb`.
        white_background: Composite transparent images on white, or on black where nothing would be
            seen on white, see `to_rgb`.
        deadline: Deadline of the call; None: none.

    Returns:
        The image, in mode RGB.

    Raises:
        MediaError: The image is empty, truncated or corrupt, or takes too long.
        MediaTooLargeError: The image exceeds a limit of the policy.
        RequestTimeoutError: The deadline has passed.
        UnsupportedMediaError: The format is not a supported image format.
    """
    from langchain_internvl.media.encoded import ReadOptions  # noqa: PLC0415 - at first use

    options = ReadOptions(exif_transpose, scale_16bit, white_background)
    return _decode(source, policy, options, deadline or Deadline(), lambda decode: decode())


def use_rgb(
    source: Source,
    policy: MediaPolicy,
    use: Callable[[Image.Image], _Value],
    *,
    exif_transpose: bool = False,
    scale_16bit: bool = False,
    white_background: bool = False,
    deadline: Deadline | None = None,
) -> _Value:
    """Decode an image to RGB and call a function with it, in an image thread.

    Of many concurrent calls, as many decode as there are cores; see `image_threads`. Images of slow
    formats are decoded in a separate process meanwhile, and take no thread from the others. A
    warning says of a file with several images, of which the first is decoded, how many it has.

    Args:
        source: See `load_rgb`.
        policy: See `load_rgb`.
        use: The function, such as one that cuts tiles.
        exif_transpose: See `load_rgb`.
        scale_16bit: See `load_rgb`.
        white_background: See `load_rgb`.
        deadline: See `load_rgb`.

    Returns:
        The result of the function.

    Raises:
        MediaError: See `load_rgb`.
        RequestTimeoutError: The deadline has passed.
    """
    from langchain_internvl.media import image_threads  # noqa: PLC0415 - at first use
    from langchain_internvl.media.encoded import ReadOptions  # noqa: PLC0415 - at first use

    options = ReadOptions(exif_transpose, scale_16bit, white_background)
    until = deadline or Deadline()

    def finish(decode: Callable[[], Image.Image]) -> _Value:
        return image_threads.run(lambda: use(decode()), until)

    return _decode(source, policy, options, until, finish, warns=True)


def _decode(
    source: Source,
    policy: MediaPolicy,
    options: ReadOptions,
    deadline: Deadline,
    finish: Callable[[Callable[[], Image.Image]], _Value],
    *,
    warns: bool = False,
) -> _Value:
    """Prepare the decoding of an image, and finish it by the given function.

    Args:
        source: See `load_rgb`.
        policy: See `load_rgb`.
        options: Options of the conversion.
        deadline: Deadline of the call.
        finish: Called with a function that returns the RGB image and takes at most about a second.
        warns: Warn of further images in the file. (A Pillow image shows the frame that the program
            has chosen.)
    """
    from langchain_internvl.media import encoded, pillow_readers  # noqa: PLC0415 - at first use

    is_file = not isinstance(source, PixelSource)
    source = _with_slow_bytes(source, policy, deadline)
    if isinstance(source, PixelSource):
        pixels = source

        def convert() -> Image.Image:
            with pixels.decoded(policy) as decoded:
                return options.apply(decoded)

        return finish(convert)
    data = source.read(policy)
    scans = _known_scans(source)
    image = encoded.open_image(data, source.name, scans)
    check_size(image.size, source.name, policy)
    if warns and is_file:
        _warn_of_frames(image, data, source.name, policy)
    if encoded.is_slow(image, data, scans):
        held = BytesSource(data, source.name)
        reader = pillow_readers.reference(image.format)
        decoded_rgb = _decode_elsewhere(held, policy, options, deadline, reader)
        if decoded_rgb is not None:
            return finish(lambda: decoded_rgb)

    def decode() -> Image.Image:
        rgb: Image.Image = encoded.use_image(image, source.name, options.apply_own)
        check_size(rgb.size, source.name, policy)  # images in icons may differ from the stated size
        return rgb

    return finish(decode)


def _warn_of_frames(image: Image.Image, data: bytes, name: str, policy: MediaPolicy) -> None:
    """Warn of an animation, or of a file with several images, which shows its first."""
    # A GIF looks for a second frame by a seek, which raises anything on broken files: on another
    # opened image than the one that is decoded.
    if image.format != "GIF" and not getattr(image, "is_animated", False):
        return
    from langchain_internvl.media.image_frames import count_frames  # noqa: PLC0415 - at first use

    if (frames := count_frames(data, name, policy)) > 1:
        warnings.warn(
            f"an image file with {frames} images (an animation, or pages) shows its first, as in "
            "the reference; pass the others as images, or the frames of an animation to "
            "video_block(): [frame.copy() for frame in PIL.ImageSequence.Iterator(image)]",
            stacklevel=2,
        )


def _decode_elsewhere(
    source: BytesSource,
    policy: MediaPolicy,
    options: ReadOptions,
    deadline: Deadline,
    reader: dict[str, Any] | None,
) -> Image.Image | None:
    """Decode an image in a separate process; None if that cannot import the reader."""
    from PIL import Image  # noqa: PLC0415 - imported at first use

    task = {"options": options.as_json(), "reader": reader}
    with decoding("image_worker", task, source, "image", policy, deadline) as records:
        head = records.head()
        if "lacks_reader" in head:
            return None
        for warning in head["warnings"]:
            warnings.warn(warning, stacklevel=5)
        size, pixels = records.pixels()
        return Image.frombytes("RGB", size, pixels)


def load_readable(source: Source, policy: MediaPolicy) -> Image.Image:
    """Decode an image legibly: upright, 16-bit grey scaled, transparency on a ground.

    For tools and documents; images of messages are decoded as in the reference. See `load_rgb`.
    """
    return load_rgb(source, policy, exif_transpose=True, scale_16bit=True, white_background=True)


def read_size(
    source: Source, policy: MediaPolicy, *, exif_transpose: bool = False
) -> tuple[int, int]:
    """Width and height in pixels, from the header alone; see `load_rgb` for the arguments."""
    from langchain_internvl.media.encoded import SIDEWAYS  # noqa: PLC0415 - imported at first use

    def measure(image: Image.Image) -> tuple[int, int]:
        width, height = image.size
        if image.format == "ICO":  # the stated size may differ from the images
            return load_readable(source, policy).size  # never warns
        is_sideways = exif_transpose and read_orientation(image) in SIDEWAYS
        return (height, width) if is_sideways else (width, height)

    size: tuple[int, int] = _use(source, policy, measure)
    return size


def orientation_of(source: Source, policy: MediaPolicy) -> int:
    """The EXIF orientation of an image, 1 to 8; see `load_rgb` for the arguments."""
    orientation: int = _use(source, policy, read_orientation)
    return orientation


def sniff_mime_type(data: bytes, scans: int | None = None) -> str | None:
    """The MIME type of an encoded image, or None if the format is unknown.

    Args:
        data: The image.
        scans: `BytesSource.jpeg_scans`, if it is known.
    """
    from langchain_internvl.media.encoded import open_image  # noqa: PLC0415 - imported at first use

    try:
        with open_image(data, "", scans) as image:
            mime_type: str | None = image.get_format_mimetype()
            return mime_type
    except Exception:  # noqa: BLE001 - a broken file has no type; reading reports the error
        return None


def _use(source: Source, policy: MediaPolicy, use: Callable[[Image.Image], Any]) -> Any:
    """Call a function with the opened Pillow image of a source; returns the result."""
    source = _with_slow_bytes(source, policy)
    if isinstance(source, PixelSource):
        with source.decoded(policy) as decoded:
            return use(decoded)
    from langchain_internvl.media import encoded  # noqa: PLC0415 - imported at first use

    image = encoded.open_image(source.read(policy), source.name, _known_scans(source))
    check_size(image.size, source.name, policy)
    return encoded.use_image(image, source.name, use)


def _known_scans(source: Source) -> int | None:
    """The number of JPEG scans, if the source keeps it."""
    return source.jpeg_scans if isinstance(source, BytesSource) else None


def _with_slow_bytes(
    source: Source, policy: MediaPolicy, deadline: Deadline | None = None
) -> Source:
    """The encoded bytes as a source, for a slow Pillow image that is not decoded yet."""
    if not isinstance(source, PixelSource):
        return source
    check_size(source.image.size, source.name, policy)
    data = source.undecoded(policy, deadline)
    return source if data is None else BytesSource(data, source.name)
