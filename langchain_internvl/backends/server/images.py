"""Images as data URLs: a server would open a path on its own machine, or fetch a URL itself."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL.Image import fromarray
from PIL.Image import open as open_image

from langchain_internvl.errors import PromptError
from langchain_internvl.media.images import sniff_mime_type
from langchain_internvl.media.sources import BytesSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from langchain_internvl.messages.conversation import Image


def tile_url(tile: NDArray[np.uint8]) -> str:
    """A tile (uint8 [size, size, 3]) as the data URL of a PNG, which is lossless."""
    buffer = io.BytesIO()
    fromarray(tile).save(buffer, "PNG", compress_level=1)  # level 6 takes four times as long
    return _data_url("image/png", buffer.getvalue())


def image_url_of(image: Image) -> str:
    """An image as a data URL.

    Raises:
        PromptError: The image has not been read yet.
    """
    if not isinstance(image.source, BytesSource):
        raise PromptError(f"{image.source.name} has to be read before it is sent")
    data = image.source.data
    return _data_url(sniff_mime_type(data) or "image/png", data)


def grid_of(image: Image, tile_size: int = 448) -> tuple[int, int] | None:
    """The tile grid (columns, rows) whose size an encoded image has; None: it has no tile limit."""
    if image.max_tiles is None or not isinstance(image.source, BytesSource):
        return None
    with open_image(io.BytesIO(image.source.data)) as encoded:  # reads the header alone
        return encoded.width // tile_size, encoded.height // tile_size


def _data_url(mime_type: str, data: bytes) -> str:
    return f"data:{mime_type};base64,{base64.b64encode(data).decode('ascii')}"
