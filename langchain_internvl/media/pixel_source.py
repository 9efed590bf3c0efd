"""Images in memory: arrays, and Pillow objects, which may decode on first use."""

from __future__ import annotations

import io
import threading
import weakref
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl.errors import InternVLError, MediaError, UnsupportedMediaError
from langchain_internvl.forks import renew_after_fork
from langchain_internvl.media.deadline import Deadline
from langchain_internvl.media.pixels import ORIENTATION, check_size, no_memory, read_orientation
from langchain_internvl.media.rgb import PHOTOMETRIC, is_deep, is_negative

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from langchain_internvl.media.policy import MediaPolicy

_PNG_MODES = {"1", "L", "LA", "RGB", "RGBA"}


class _Locks:
    """Locks by object. Some objects share a lock, which may only delay a thread."""

    def __init__(self, count: int = 64) -> None:
        self._count = count
        self._renew()
        renew_after_fork(self, _Locks._renew)

    def _renew(self) -> None:
        # Reentrant: code that uses a decoded image may decode it again.
        self._locks = [threading.RLock() for _ in range(self._count)]

    @contextmanager
    def held(self, value: object) -> Iterator[None]:
        """Hold the lock of an object, chosen by its identity."""
        with self._locks[id(value) // 64 % self._count]:
            yield


# Two sets, always locked in this order: several images may share one file object.
_IMAGES = _Locks()
_FILES = _Locks()

_DAMAGED: weakref.WeakValueDictionary[int, Image.Image] = weakref.WeakValueDictionary()
"""Images whose decoding has failed, by identity. Pillow takes them for decoded: a second `load()`
raises nothing, and the pixels after the damage are black."""


def hold_file(file: object) -> AbstractContextManager[None]:
    """Lock a caller's file object for this thread, including images that read from it."""
    return _FILES.held(file)


@dataclass(frozen=True)
class PixelSource:
    """A Pillow image as a source.

    `PIL.Image.open` decodes nothing; the first use of the image does. Concurrent decoding of one
    image, or of two images of one file object, mixes up the file position. Each use therefore holds
    the lock of the image, and decoding also holds the lock of its file.

    Attributes:
        image: The image. It is not changed, and not closed.
        name: Name in error messages.
        frame: The frame that the image showed when it was given; None: any.
    """

    image: Image.Image
    name: str
    frame: int | None = None

    def undecoded(self, policy: MediaPolicy, deadline: Deadline | None = None) -> bytes | None:
        """The encoded bytes of a slow image that is not decoded yet; None for other images.

        A separate process decodes them, with a deadline and a memory limit; see `slow_bytes`.

        Raises:
            MediaError: The image cannot be decoded in a separate process.
            MediaTooLargeError: The bytes exceed the policy's limit.
            RequestTimeoutError: The deadline has passed.
        """
        if getattr(self.image, "fp", None) is None:
            return None
        from langchain_internvl.media.undecoded import slow_bytes  # noqa: PLC0415 - imports Pillow

        with _IMAGES.held(self.image), hold_file(getattr(self.image, "fp", None) or self.image):
            return slow_bytes(self.image, self.name, policy, deadline or Deadline())

    @contextmanager
    def decoded(self, policy: MediaPolicy) -> Iterator[Image.Image]:
        """The decoded image, locked for this thread until the context ends.

        Raises:
            MediaError: It has no pixels, or is truncated, corrupt or closed.
            MediaTooLargeError: It has more pixels than the policy allows; nothing is decoded then.
        """
        check_size(self.image.size, self.name, policy)
        with _IMAGES.held(self.image):
            try:
                # A decoded image with one frame has released its file.
                with hold_file(getattr(self.image, "fp", None) or self.image):
                    self._check_frame()
                    self._load()
                    self._check_frame()
                yield self.image
            except InternVLError:
                raise
            except MemoryError as error:
                raise no_memory(self.image.size, self.name) from error
            except Exception as error:  # Pillow's readers raise anything on broken files
                reason = str(error) or type(error).__name__
                raise MediaError(
                    self.name, f"the image is truncated, corrupt or closed: {reason}"
                ) from error

    def _load(self) -> None:
        """Decode the image; an image that was damaged once is refused again."""
        if self.image is _DAMAGED.get(id(self.image)) and not getattr(self.image, "tile", ()):
            raise OSError("decoding it has failed before; open the file anew")
        try:
            self.image.load()
        except MemoryError:
            raise
        except Exception:
            _DAMAGED[id(self.image)] = self.image
            raise
        _DAMAGED.pop(id(self.image), None)  # another frame of it

    def _check_frame(self) -> None:
        """Refuse an image that the program has moved to another frame after it was given.

        Raises:
            MediaError: It shows another frame.
        """
        if self.frame is not None and self.image.tell() != self.frame:
            raise MediaError(
                self.name,
                f"the program moved the image from frame {self.frame} to {self.image.tell()} after "
                "it was given; give a copy of each frame (image.copy())",
            )

    def read(self, policy: MediaPolicy) -> bytes:
        """The image as PNG, with its EXIF orientation; the pixels are kept exactly.

        A slow image that is not decoded yet is returned as the bytes of its file.
        Grey that PNG cannot hold (floats, more than 16 bits, 0 for white) is written as TIFF.
        Other modes that PNG cannot hold are converted to RGB first, as they would be later.

        Raises:
            MediaError: See `decoded` and `undecoded`. (`max_bytes` does not apply to pixels in
                memory.)
        """
        check_size(self.image.size, self.name, policy)
        encoded = self.undecoded(policy)
        return self.decoded_bytes(policy) if encoded is None else encoded

    def decoded_bytes(self, policy: MediaPolicy) -> bytes:
        """The image as PNG or TIFF, decoded in this process; see `read`."""
        from PIL import Image  # noqa: PLC0415 - imported at first use

        exif = Image.Exif()
        with self.decoded(policy) as image:
            exif[ORIENTATION] = read_orientation(image)
            photometric = 0 if is_negative(image) else 1
            own = _in_stored_mode(image)
        buffer = io.BytesIO()
        if own.mode in {"F", "I"} or photometric == 0:
            own.save(buffer, "TIFF", tiffinfo={PHOTOMETRIC: photometric})
            return buffer.getvalue()
        # Level 1: these bytes live for one request, speed matters more than size.
        own.save(buffer, "PNG", compress_level=1, exif=exif)
        return buffer.getvalue()


def _in_stored_mode(image: Image.Image) -> Image.Image:
    """A copy in a mode that PNG or TIFF holds: the same, 16-bit grey, RGB or RGBA."""
    if image.mode in _PNG_MODES or image.mode == "F" or is_negative(image):
        return image.copy()
    if is_deep(image):
        import numpy as np  # noqa: PLC0415 - imported at first use
        from PIL import Image as PILImage  # noqa: PLC0415 - imported at first use

        values = np.asarray(image)
        if values.min() >= 0 and values.max() <= 65535:
            grey = PILImage.fromarray(values.astype(np.uint16))
            grey.info.update(image.info)
            return grey
        return image.copy()
    if image.mode == "La":
        return image.convert("LA")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def from_array(array: np.ndarray[Any, Any], name: str) -> PixelSource:
    """The image of a uint8 array, which is copied.

    Args:
        array: Shape [height, width], [height, width, 1], [height, width, 3] (RGB) or
            [height, width, 4] (RGBA).
        name: Name in error messages.

    Raises:
        MediaError: It has no pixels.
        UnsupportedMediaError: It has another shape or type.
    """
    import numpy as np  # noqa: PLC0415 - imported at first use
    from PIL import Image  # noqa: PLC0415 - imported at first use

    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise UnsupportedMediaError(
            name, "the array is masked, and has no values there; fill it: array.filled(255)"
        )
    if array.dtype != np.uint8:
        remedy = "scale them first"
        if array.dtype == bool or array.dtype.kind == "f":
            remedy = 'values from 0 to 1 become (array * 255).astype("uint8")'
        raise UnsupportedMediaError(
            name, f"arrays hold uint8 values from 0 to 255, not {array.dtype}; {remedy}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {3, 4}):
        is_first = array.ndim == 3 and array.shape[0] in {1, 3, 4}
        remedy = "; array.transpose(1, 2, 0) puts the channels last" if is_first else ""
        raise UnsupportedMediaError(
            name,
            f"arrays have shape [height, width] or [height, width, 1|3|4], not {array.shape}"
            + remedy,
        )
    if array.size == 0:
        raise MediaError(name, f"has no pixels (shape {array.shape})")
    # Pillow shares the memory of grey and RGBA arrays.
    return PixelSource(Image.fromarray(np.array(array, order="C", copy=True)), name)
