"""Checks that the weight files are large enough for the model of the config.

transformers allocates missing tensors at the size in the config. A config with too many layers
would fill the memory before the missing tensors are reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_internvl.errors import CheckpointError

_FEWEST_BYTES = 0.4
"""Minimum bytes per parameter: 4 bits, with a margin for rounding."""


def check_size(config: Mapping[str, Any], stored_bytes: int, where: str) -> None:
    """Compare the parameters that a config implies with the size of the files.

    Args:
        config: `config.json`, checked already.
        stored_bytes: Total size of the weight files, in bytes.
        where: The folder, for the error.

    Raises:
        CheckpointError: The files are too small for the config.
    """
    text = config.get("llm_config") or config.get("text_config") or {}
    vision = config.get("vision_config") or {}
    parameters = _fewest_of_language_model(text) + _fewest_of_vision_tower(vision)
    if parameters * _FEWEST_BYTES > stored_bytes:
        raise CheckpointError(
            f"config.json of {where} describes a model of at least {parameters:,} parameters, but "
            f"its weights have {stored_bytes:,} bytes: files are missing, or one of vocab_size, "
            "hidden_size, intermediate_size, num_hidden_layers and num_experts is wrong"
        )


def dense_layers(text: Mapping[str, Any]) -> frozenset[int]:
    """The layers of a mixture of experts that have no experts.

    Args:
        text: Config of the language model, checked already.
    """
    step = text.get("decoder_sparse_step") or 1
    named = frozenset(text.get("mlp_only_layers") or ())
    layers = range(text.get("num_hidden_layers", 0))
    return frozenset(layer for layer in layers if (layer + 1) % step or layer in named)


def _fewest_of_language_model(text: Mapping[str, Any]) -> int:
    """Minimum parameters: embeddings, and per layer query and output projections and experts."""
    width, layers = text.get("hidden_size", 0), text.get("num_hidden_layers", 0)
    heads = text.get("num_attention_heads", 1)
    head_size = text.get("head_dim") or width // heads
    experts = text.get("num_experts") or text.get("num_local_experts") or 1
    inner = text.get("moe_intermediate_size") or text.get("intermediate_size", 0)
    dense = len(dense_layers(text))
    attention = 2 * width * heads * head_size
    rest = dense * text.get("intermediate_size", 0) + (layers - dense) * inner * experts
    return int(text.get("vocab_size", 0) * width + layers * attention + 3 * width * rest)


def _fewest_of_vision_tower(vision: Mapping[str, Any]) -> int:
    width, layers = vision.get("hidden_size", 0), vision.get("num_hidden_layers", 0)
    return int(layers * (4 * width**2 + 2 * width * vision.get("intermediate_size", 0)))
