"""Placement of a model on devices, and the choice of its attention implementation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from langchain_internvl.backends.transformers.experts import MixtureSizes, split_mixture

DeviceMap = str | Mapping[str, Any] | None

_FLASH_DTYPES = {"float16", "bfloat16"}
_AMPERE = (8, 0)


def split_model(num_layers: int, num_gpus: int) -> dict[str, int]:
    """The placement of `split_model` in the InternVL2 quick start, by transformers' names.

    GPU 0 also has the vision tower and the projector, so it gets half as many layers as the others.
    Embeddings, norm, head and the last layer are on GPU 0 too, so that inputs and outputs of the
    language model are on one device.

    Args:
        num_layers: Layers of the language model.
        num_gpus: GPUs, at least 1.

    Returns:
        A device map.
    """
    share = math.ceil(num_layers / (num_gpus - 0.5))
    shares = [math.ceil(share * 0.5), *[share] * (num_gpus - 1)]
    devices = [gpu for gpu, count in enumerate(shares) for _ in range(count)][:num_layers]
    devices[-1] = 0
    first = (
        "model.vision_tower",
        "model.multi_modal_projector",
        "model.language_model.embed_tokens",
        "model.language_model.rotary_emb",
        "model.language_model.norm",
        "lm_head",
    )
    return {
        **dict.fromkeys(first, 0),
        **{f"model.language_model.layers.{layer}": gpu for layer, gpu in enumerate(devices)},
    }


_ROOM_FOR_WEIGHTS = 0.85
"""The share of a GPU's free memory that weights may take; the rest is for the KV cache."""


def place(
    device_map: DeviceMap,
    num_layers: int,
    free_bytes: Sequence[int],
    mixture: MixtureSizes | None = None,
) -> DeviceMap:
    """The device map for a machine.

    Args:
        device_map: The requested map. "auto": the CPU without GPUs, transformers' own choice with
            one GPU (which offloads to the CPU if necessary); with several, `split_mixture` for a
            mixture of experts that fits, otherwise `split_model`.
        num_layers: Layers of the language model.
        free_bytes: Free memory of each GPU of this machine.
        mixture: Sizes of a mixture of experts; None: it is none.
    """
    num_gpus = len(free_bytes)
    if device_map != "auto" or num_gpus == 1:
        return device_map
    if mixture is not None and num_gpus:
        room = [int(free * _ROOM_FOR_WEIGHTS) for free in free_bytes]
        by_size = split_mixture(mixture, room)
        if by_size is not None:
            return by_size
    # On the CPU alone, without accelerate's hooks.
    return split_model(num_layers, num_gpus) if num_gpus else None


def can_use_flash_attention(
    dtype: str,
    device_map: DeviceMap,
    capabilities: Sequence[tuple[int, int]],
    *,
    is_installed: bool,
) -> bool:
    """Whether flash-attention can run: installed, 16-bit weights, all on GPUs since Ampere.

    Args:
        dtype: Data type of the weights.
        device_map: Their placement.
        capabilities: Compute capability of each GPU of this machine.
        is_installed: Whether the package flash-attn is installed.
    """
    places = device_map.values() if isinstance(device_map, Mapping) else [device_map]
    leaves_gpus = any(str(place) in {"None", "cpu", "disk", "meta"} for place in places)
    return (
        is_installed
        and dtype in _FLASH_DTYPES
        and not leaves_gpus
        and bool(capabilities)
        and min(capabilities) >= _AMPERE
    )
