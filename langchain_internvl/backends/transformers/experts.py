"""Device map of a mixture-of-experts model on several GPUs.

transformers keeps the experts of a layer in one tensor, so a device map can give the experts of a
layer a GPU of their own, but cannot place a single expert. A layer that does not fit on one GPU is
split: attention on one GPU, experts on the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from langchain_internvl.model_files.weight_size import dense_layers

_ROUTER: Mapping[str, str] = {"qwen3_moe": "gate", "gpt_oss": "router"}
"""Names of the router module, which selects experts."""

_FIRST = (
    "model.vision_tower", "model.multi_modal_projector", "model.language_model.embed_tokens",
    "model.language_model.rotary_emb", "model.language_model.norm", "lm_head",
)  # fmt: skip
"""Modules that are always on GPU 0."""

_STEPS = 100
"""Fill levels that are tried, from empty to full."""


def is_mixture(model_type: str) -> bool:
    """Whether language models of a type are mixtures of experts."""
    return model_type in _ROUTER


@dataclass(frozen=True)
class MixtureSizes:
    """Sizes of the parts of a mixture of experts, in bytes.

    Attributes:
        router: Name of the module that chooses experts, in its `mlp`.
        first: Vision tower, projector, embeddings and head together.
        rest: Size of each layer without its experts.
        experts: Size of each layer's experts; 0 for a dense layer.
    """

    router: str
    first: int
    rest: tuple[int, ...]
    experts: tuple[int, ...]


def mixture_sizes(
    text: Mapping[str, Any], vision: Mapping[str, Any], parameter_bytes: int
) -> MixtureSizes | None:
    """The sizes of a mixture of experts, computed from its config; None for a dense model.

    Args:
        text: Config of the language model.
        vision: Config of the vision tower.
        parameter_bytes: Bytes per parameter.
    """
    router = _ROUTER.get(str(text.get("model_type")))
    if router is None:
        return None
    width, layers = text["hidden_size"], text["num_hidden_layers"]
    count = text.get("num_experts") or text.get("num_local_experts") or 1
    head_size = text.get("head_dim") or width // text["num_attention_heads"]
    heads = text["num_attention_heads"] + text.get(
        "num_key_value_heads", text["num_attention_heads"]
    )
    attention = 2 * width * heads * head_size
    inner = text.get("moe_intermediate_size") or text["intermediate_size"]
    dense = dense_layers(text)
    tower = vision.get("hidden_size", 0) * (
        4 * vision.get("hidden_size", 0) + 2 * vision.get("intermediate_size", 0)
    )
    first = 2 * text["vocab_size"] * width + vision.get("num_hidden_layers", 0) * tower
    rest = (
        attention + (3 * width * text["intermediate_size"] if layer in dense else width * count)
        for layer in range(layers)
    )
    return MixtureSizes(
        router=router,
        first=first * parameter_bytes,
        rest=tuple(size * parameter_bytes for size in rest),
        experts=tuple(
            0 if layer in dense else 3 * width * inner * count * parameter_bytes
            for layer in range(layers)
        ),
    )


def split_mixture(sizes: MixtureSizes, room: Sequence[int]) -> dict[str, int] | None:
    """Device map of a mixture of experts, from the sizes of its parts.

    The GPUs are filled in order, each to the same share of its room. The share is the smallest that
    suffices, so that the KV cache gets the rest. Experts are separated from their layer only if
    whole layers do not fit.

    Args:
        sizes: Sizes of the parts, in bytes.
        room: Bytes available to weights on each GPU.

    Returns:
        A device map by transformers' names; None: the weights do not fit.
    """
    for is_whole in (True, False):
        for step in range(1, _STEPS + 1):
            level = [size * step // _STEPS for size in room]
            places = _fill(sizes, level, is_whole=is_whole)
            if places is not None:
                return _to_device_map(sizes, places)
    return None


def _fill(
    sizes: MixtureSizes, room: Sequence[int], *, is_whole: bool
) -> list[tuple[int, int]] | None:
    """GPU indices of each layer and of its experts; None: they do not fit."""
    left = list(room)
    left[0] -= sizes.first
    if left[0] < 0:
        return None
    places: list[tuple[int, int]] = []
    gpu = 0
    for rest, experts in zip(sizes.rest, sizes.experts, strict=True):
        own = _next_with(left, gpu, rest + experts if is_whole else rest)
        if own is None:
            return None
        left[own] -= rest
        of_experts = _next_with(left, own, experts)
        if of_experts is None:
            return None
        left[of_experts] -= experts
        places.append((own, of_experts))
        gpu = of_experts
    return places


def _next_with(left: Sequence[int], start: int, size: int) -> int | None:
    return next((gpu for gpu in range(start, len(left)) if left[gpu] >= size), None)


def _to_device_map(sizes: MixtureSizes, places: Sequence[tuple[int, int]]) -> dict[str, int]:
    device_map = dict.fromkeys(_FIRST, 0)
    for layer, (own, experts) in enumerate(places):
        name = f"model.language_model.layers.{layer}"
        if own == experts:
            device_map[name] = own
            continue
        parts = ("self_attn", "input_layernorm", "post_attention_layernorm", f"mlp.{sizes.router}")
        device_map |= {f"{name}.{part}": own for part in parts}
        device_map[f"{name}.mlp.experts"] = experts
    return device_map


def return_from_experts(model: Any) -> None:
    """Move the outputs of experts on another device back to the device of their layer.

    accelerate moves the inputs of a module to its device and leaves the outputs there; the layer
    then adds the outputs to its own hidden states.

    Args:
        model: A model that was loaded with a device map.
    """
    for name, module in model.named_modules():
        hook: Any = getattr(module, "_hf_hook", None)
        if name.endswith(".mlp.experts") and hasattr(hook, "io_same_device"):
            hook.io_same_device = True
