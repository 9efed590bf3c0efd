"""The pixel shuffle of InternVL 1.x, whose features are in transposed order.

`pixel_shuffle` of the original `modeling_internvl_chat.py` moves features from height and width of
a tile to the channels; version "v1" does not swap height and width back. transformers has version
"v2" only. "v1" is the default of the original config, for checkpoints without `ps_version`.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch


def use_pixel_shuffle(model: Any, version: str) -> None:
    """Set the version of a native model's pixel shuffle.

    Args:
        model: A native InternVL.
        version: "v1", or "v2", which is transformers' own.
    """
    if version == "v1":
        model.model.pixel_shuffle = MethodType(_transposed, model.model)


def _transposed(model: Any, vision_features: torch.Tensor, scale_factor: float = 0.5) -> Any:
    """Shape [tiles, rows, columns, channels] to [tiles, columns / 2, rows / 2, 4 * channels]."""
    shuffled = type(model).pixel_shuffle(model, vision_features, scale_factor)
    return shuffled.transpose(1, 2).contiguous()
