"""Settings of transformers' quantisers for weights that are stored quantised.

The config of such a checkpoint names modules by their original names, or not at all. Which modules
are quantised is therefore read from the names of the tensors, and written with native names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import torch

from langchain_internvl.backends.transformers.weights import native_parts
from langchain_internvl.errors import UnsupportedCheckpointError
from langchain_internvl.model_files.quantised import (
    method_of,
    quantised_modules,
    stored_quantization,
)

if TYPE_CHECKING:
    from langchain_internvl.checkpoint import Checkpoint

_LAYERS = "model.language_model.layers."
_ELSEWHERE = rf"(?!{re.escape(_LAYERS)}).*"
"""Pattern of the modules outside the layers of the language model."""


def native_quantization(
    checkpoint: Checkpoint, names: Collection[str], text_config: Any
) -> dict[str, Any] | None:
    """The `quantization_config` of a native model, for weights that are stored quantised.

    Args:
        checkpoint: The checkpoint.
        names: Names of its tensors.
        text_config: Native config of its language model.

    Returns:
        The config as a dictionary; None: the weights are not quantised.

    Raises:
        UnsupportedCheckpointError: Other modules than layers of the language model are quantised,
            or the experts of a mixture.
    """
    stored = stored_quantization(checkpoint.config)
    if stored is None:
        return None
    quantised = _native_modules(quantised_modules(names), text_config)
    others = sorted(
        one for one in quantised if not one.startswith(_LAYERS) or ".mlp.experts." in one
    )
    if others or not quantised:
        raise UnsupportedCheckpointError(
            f"{checkpoint.folder} is stored quantised ({method_of(stored)}), but "
            f"{others[0] if others else 'no layer of the language model'} is: serve it by LMDeploy "
            "or vLLM and name the server as base_url="
        )
    fused = next((name for name in names if name.endswith(".wqkv.weight_scale")), None)
    if fused is not None:
        raise UnsupportedCheckpointError(
            f"{checkpoint.folder}: {fused} belongs to a fused projection (wqkv of InternLM2), "
            "which cannot be split in this format: serve it by vLLM and name the server as "
            "base_url="
        )
    weights = {name.removesuffix(".weight") for name in names if name.endswith(".weight")}
    kept = sorted(
        one for one in _native_modules(weights, text_config) - quantised if one.startswith(_LAYERS)
    )
    return _SETTINGS[method_of(stored)](stored, quantised, kept)


def _native_modules(modules: Collection[str], text_config: Any) -> set[str]:
    """Native names of modules; a fused projection has three."""
    heads = text_config.num_attention_heads, text_config.num_key_value_heads
    rows = torch.empty(heads[1] * (heads[0] // heads[1] + 2) * 3, 1)  # any size that can be split
    return {
        native.removesuffix(".weight")
        for module in modules
        for native, _ in native_parts(f"{module}.weight", rows, text_config)
    }


def _awq(
    stored: Mapping[str, Any], _quantised: Collection[str], kept: Collection[str]
) -> dict[str, Any]:
    return {**stored, "modules_to_not_convert": [_ELSEWHERE, *map(re.escape, kept)]}


def _gptq(
    stored: Mapping[str, Any], quantised: Collection[str], _kept: Collection[str]
) -> dict[str, Any]:
    inside = sorted({one.removeprefix(_LAYERS).partition(".")[2] for one in quantised})
    return {
        **stored,
        "block_name_to_quantize": _LAYERS.removesuffix("."),
        "modules_in_block_to_quantize": [inside],
    }


def _compressed_tensors(
    stored: Mapping[str, Any], _quantised: Collection[str], _kept: Collection[str]
) -> dict[str, Any]:
    """Expanded while loading; compressed weights would be expanded at the first forward pass.

    transformers expands all dense layers by the scheme of one group.
    """
    if len(stored["config_groups"]) != 1:
        raise UnsupportedCheckpointError(
            "the layers are quantised by several schemes (config_groups of compressed-tensors): "
            "serve the checkpoint by vLLM and name the server as base_url="
        )
    return {**stored, "ignore": [], "dequantize": True}


_SETTINGS = {"awq": _awq, "gptq": _gptq, "compressed-tensors": _compressed_tensors}
