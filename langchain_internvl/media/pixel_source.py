"""Images that are decoded already, or are Pillow objects that decode on first use."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl.errors import InternVLError, MediaError, UnsupportedMediaError
from langchain_internvl.forks import renew_after_fork
from langchain_internvl.media.pixels import ORIENTATION, check_size, no_memory, read_orientation
from langchain_internvl.media.rgb import PHOTOMETRIC, is_deep, is_negative

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    from langchain_internvl.media.policy import MediaPolicy

_PNG_MODES = {"1", "L", "LA", "RGB", "RGBA"}


class _Locks:
    """Locks of objects; a few objects share one, which costs a wait and nothing else."""

    def __init__(self, count: int = 64) -> None:
        self._count = count
        self._renew()
        renew_after_fork(self, _Locks._renew)

    def _renew(self) -> None:
        # Reentrant: what is done with a decoded image may decode it once more.
        self._locks = [threading.RLock() for _ in range(self._count)]

    @contextmanager
    def held(self, value: object) -> Iterator[None]:
        """Hold the lock of an object; it is the same for the same object."""
        with self._locks[id(value) // 64 % self._count]:
            yield


# Two sets, always taken in this order: images that were opened from one file share it.
_IMAGES = _Locks()
_FILES = _Locks()


def hold_file(file: object) -> AbstractContextManager[None]:
    """Use a caller's file object for this thread alone, images that read from it included."""
    return _FILES.held(file)


@dataclass(frozen=True)
class PixelSource:
    """A Pillow image as a source.

    `PIL.Image.open` decodes nothing; the first use of the image does, and two threads that use
    one such object at once read each other's bytes. So do two images that were opened from one file
    object. All uses here are under the image's lock, and decoding under that of its file.

    Attributes:
        image: The image. It is not changed, and not closed.
        name: Name in error messages.
    """

    image: Image.Image
    name: str

    def undecoded(self, policy: MediaPolicy) -> bytes | None:
        """The encoded bytes of an image that was opened, is not decoded yet, and decodes slowly.

        They are decoded elsewhere, under a deadline and a limit of memory; see `slow_bytes`.

        Raises:
            MediaTooLargeError: They are over the policy's limit.
        """
        if getattr(self.image, "fp", None) is None:
            return None
        from langchain_internvl.media.undecoded import slow_bytes  # noqa: PLC0415 - imports Pillow

        with _IMAGES.held(self.image), hold_file(getattr(self.image, "fp", None) or self.image):
            return slow_bytes(self.image, self.name, policy)

    @contextmanager
    def decoded(self, policy: MediaPolicy) -> Iterator[Image.Image]:
        """The image, decoded, for this thread alone until the context ends.

        Raises:
            MediaError: It has no pixels, or is truncated, corrupt or closed.
            MediaTooLargeError: It has more pixels than the policy allows; nothing is decoded then.
        """
        check_size(self.image.size, self.name, policy)
        with _IMAGES.held(self.image):
            try:
                # An image that is decoded, and has one frame, has let its file go.
                with hold_file(getattr(self.image, "fp", None) or self.image):
                    self.image.load()
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

    def read(self, policy: MediaPolicy) -> bytes:
        """The image as PNG, with its EXIF orientation; the pixels are kept exactly.

        What is not decoded yet, and decodes slowly, is its file's bytes.
        Grey that PNG cannot hold (floats, more than 16 bits, 0 for white) is written as TIFF.
        Other modes that PNG cannot hold are converted to RGB first, as they would be later.

        Raises:
            MediaError: See `decoded` and `undecoded`. (`max_bytes` does not apply to pixels in
                memory.)
        """
        from PIL import Image  # noqa: PLC0415 - imported at first use

        check_size(self.image.size, self.name, policy)
        if (encoded := self.undecoded(policy)) is not None:
            return encoded
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
    """The image of a uint8 array; later changes of the array do not change it.

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

    if array.dtype != np.uint8:
        raise UnsupportedMediaError(
            name, f"arrays hold uint8 values from 0 to 255, not {array.dtype}"
        )
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {3, 4}):
        raise UnsupportedMediaError(
            name, f"arrays have shape [height, width] or [height, width, 1|3|4], not {array.shape}"
        )
    if array.size == 0:
        raise MediaError(name, f"has no pixels (shape {array.shape})")
    # Pillow shares the memory of grey and RGBA arrays.
    return PixelSource(Image.fromarray(np.array(array, order="C", copy=True)), name)
