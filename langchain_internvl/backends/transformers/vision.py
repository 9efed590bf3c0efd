"""Encodes tiles to vision features, which replace the embeddings of context tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.devices import execution_device
from langchain_internvl.backends.transformers.image_jobs import Unwanted
from langchain_internvl.media.tiling import PixelScale

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TILES_AT_ONCE = 16
"""Number of tiles of one image per batch of the vision tower; bounds its memory."""

TILES_AT_ONCE_ON_CPU = 1
"""The same on the CPU, where larger batches are not faster."""


def use_pixel_scale(model: Any, scale: PixelScale) -> None:
    """Set the scale of the pixels that a native model encodes; else it is ImageNet's."""
    model.pixel_scale = scale


def normalise_on_device(
    tiles: NDArray[np.uint8], device: torch.device, scale: PixelScale | None = None
) -> torch.Tensor:
    """`media.tiling.normalise` on the model's device, with the same float32 steps.

    Args:
        tiles: uint8 array of shape [tiles, height, width, 3].
        device: Device of the vision tower; the tiles are transferred as uint8.
        scale: Factor, mean and standard deviation; None: 1/255 and ImageNet's.

    Returns:
        float32 tensor of shape [tiles, 3, height, width].
    """
    owned = tiles if tiles.flags.writeable else tiles.copy()  # torch warns of read-only arrays
    moved = torch.from_numpy(owned).to(device).permute(0, 3, 1, 2)
    # Laid out once, by the conversion; each step then works in place.
    values = moved.to(torch.float32, memory_format=torch.contiguous_format)
    scale = scale or PixelScale()
    mean, std = (
        torch.tensor(constant, dtype=torch.float32, device=device).view(3, 1, 1)
        for constant in (scale.mean, scale.std)
    )
    # Divided as the reference does, not multiplied: 1/255 has no exact value, but 255 has.
    return values.div_(1 / scale.factor).sub_(mean).div_(std)


def encode_image(
    model: Any, tiles: NDArray[np.uint8], is_unwanted: Callable[[], bool] = lambda: False
) -> torch.Tensor:
    """Encode one image, independent of other images.

    Args:
        model: A native InternVL.
        tiles: uint8 [tiles, size, size, 3].
        is_unwanted: Cancellation test, called before each batch of tiles.

    Returns:
        Tensor of shape [tiles * tokens per tile, hidden size of the language model].

    Raises:
        Unwanted: `is_unwanted` returned True.
    """
    device = execution_device(model.model.vision_tower)
    at_once = TILES_AT_ONCE_ON_CPU if device.type == "cpu" else TILES_AT_ONCE
    scale = getattr(model, "pixel_scale", None)
    features = []
    for start in range(0, len(tiles), at_once):
        if is_unwanted():
            raise Unwanted
        pixels = normalise_on_device(tiles[start : start + at_once], device, scale)
        features.append(model.get_image_features(pixels).pooler_output)
    return torch.cat(features).flatten(0, 1)


def encode_tiles(model: Any, images: Sequence[NDArray[np.uint8]]) -> torch.Tensor | None:
    """Encode several images separately.

    Args:
        model: A native InternVL.
        images: The tiles of each image, uint8 [tiles, size, size, 3].

    Returns:
        Tensor of shape [all tiles * tokens per tile, hidden size of the language model], in the
        order of the tiles; None if there are no images.
    """
    return torch.cat([encode_image(model, tiles) for tiles in images]) if images else None
