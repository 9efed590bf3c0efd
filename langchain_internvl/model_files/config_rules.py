"""Allowed values of a checkpoint's settings, field by field.

The bounds are far above all checkpoints of the family, and low enough that derived objects (grids,
prompts, empty models) stay small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from langchain_internvl.errors import CheckpointError
from langchain_internvl.media.tiling import MOST_TILES
from langchain_internvl.model_files.rules import (
    FLAG,
    SECTION,
    TEXT,
    ListOf,
    Number,
    OneOf,
    OrNull,
    Rule,
    Square,
    Whole,
    check_rules,
    shorten,
)

_SIDE = Whole(14, 4096)
_TOKEN_ID = Whole(0, 10_000_000)
_WIDTH = Whole(1, 65_536)
_LAYERS = Whole(1, 1024)
_HEADS = Whole(1, 1024)
_RATE = Number(0, 1)
_TILES = Whole(1, MOST_TILES)
_END_TOKENS = OrNull(ListOf(Whole(-1, 10_000_000), 1000, alone=True))

_ANY_CONFIG: Mapping[str, Rule] = {
    "downsample_ratio": Number(0.01, 1),
    "dtype": OrNull(TEXT),
    "torch_dtype": OrNull(TEXT),
    "eos_token_id": _END_TOKENS,
    "quantization_config": OrNull(SECTION),
    "tie_word_embeddings": FLAG,
    "auto_map": OrNull(SECTION),
}
_ORIGINAL: Mapping[str, Rule] = {
    **_ANY_CONFIG,
    "llm_config": SECTION,
    "vision_config": SECTION,
    "dynamic_image_size": FLAG,
    "force_image_size": OrNull(Square(_SIDE)),
    "max_dynamic_patch": _TILES,
    "min_dynamic_patch": _TILES,
    "select_layer": Whole(-1024, 1024),
    "template": OrNull(TEXT),
    "use_thumbnail": FLAG,
}
_HF: Mapping[str, Rule] = {
    **_ANY_CONFIG,
    "text_config": SECTION,
    "vision_config": SECTION,
    "image_seq_length": Whole(1, 65_536),
    "image_token_id": _TOKEN_ID,
    "projector_hidden_act": TEXT,
    "vision_feature_layer": Whole(-1024, 1024),
    # "full" keeps the class token, which the pixel shuffle has no place for.
    "vision_feature_select_strategy": OneOf(("default",)),
}
_VISION: Mapping[str, Rule] = {
    "attention_bias": FLAG,
    "attention_dropout": _RATE,
    "hidden_act": TEXT,
    "hidden_size": _WIDTH,
    "image_size": Square(_SIDE),
    "intermediate_size": Whole(1, 1_000_000),
    "layer_norm_eps": _RATE,
    "norm_type": TEXT,
    "num_attention_heads": _HEADS,
    "num_channels": Whole(3, 3),
    "num_hidden_layers": _LAYERS,
    "patch_size": Square(Whole(1, 512)),
    "qk_normalization": FLAG,
    "qkv_bias": FLAG,
    "use_qk_norm": FLAG,
}
_LANGUAGE: Mapping[str, Rule] = {
    "attention_bias": FLAG,
    "attention_dropout": _RATE,
    "bias": FLAG,
    "bos_token_id": OrNull(_TOKEN_ID),
    "decoder_sparse_step": OrNull(Whole(1, 1_000_000)),
    "dtype": OrNull(TEXT),
    "torch_dtype": OrNull(TEXT),
    "eos_token_id": _END_TOKENS,
    "head_dim": OrNull(Whole(1, 4096)),
    "hidden_act": TEXT,
    "hidden_size": _WIDTH,
    "intermediate_size": Whole(1, 1_000_000),
    "layer_types": OrNull(ListOf(TEXT, 1024)),
    "max_position_embeddings": Whole(1, 100_000_000),
    "max_window_layers": OrNull(Whole(0, 1024)),
    "mlp_bias": FLAG,
    "mlp_only_layers": OrNull(ListOf(Whole(0, 1023), 1024)),
    "model_type": TEXT,
    "moe_intermediate_size": Whole(1, 1_000_000),
    "num_attention_heads": _HEADS,
    "num_experts": Whole(1, 4096),
    "num_experts_per_tok": Whole(1, 4096),
    "num_hidden_layers": _LAYERS,
    "num_key_value_heads": OrNull(_HEADS),
    "num_local_experts": Whole(1, 4096),
    "original_max_position_embeddings": OrNull(Whole(1, 100_000_000)),
    "pad_token_id": OrNull(Whole(-1, 10_000_000)),
    "partial_rotary_factor": OrNull(_RATE),
    "qkv_bias": FLAG,
    "quantization_config": OrNull(SECTION),
    "rms_norm_eps": _RATE,
    "rope_parameters": OrNull(SECTION),
    "rope_scaling": OrNull(SECTION),
    "rope_theta": OrNull(Number(1, 1e15)),
    "sliding_window": OrNull(Whole(0, 100_000_000)),
    "swiglu_alpha": Number(0, 1000),
    "swiglu_limit": Number(0, 1000),
    "tie_word_embeddings": FLAG,
    "use_sliding_window": FLAG,
    "vocab_size": Whole(1, 10_000_000),
}
_ROPE: Mapping[str, Rule] = {
    "factor": OrNull(Number(1e-3, 10_000)),
    "long_factor": ListOf(Number(1e-3, 10_000), 4096),
    "short_factor": ListOf(Number(1e-3, 10_000), 4096),
    "original_max_position_embeddings": OrNull(Whole(1, 100_000_000)),
    "rope_theta": OrNull(Number(1, 1e15)),
    "rope_type": TEXT,
    "type": TEXT,
    "attention_factor": OrNull(Number(0, 1000)),
    "partial_rotary_factor": OrNull(_RATE),
}
_ROPE_NEEDS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(("dynamic", "linear", "llama3", "yarn"), ("factor",)),
    **dict.fromkeys(("longrope", "su"), ("long_factor", "short_factor")),
}
"""Settings without which a kind of rope has no frequencies."""

_GENERATION: Mapping[str, Rule] = {
    "do_sample": OrNull(FLAG),
    "eos_token_id": _END_TOKENS,
    "repetition_penalty": OrNull(Number(0.01, 100)),
    "temperature": OrNull(Number(0, 100)),
    "top_k": OrNull(Whole(0, 10_000_000)),
    "top_p": OrNull(Number(0, 1)),
}
_PREPROCESSOR: Mapping[str, Rule] = {
    "min_patches": _TILES,
    "max_patches": _TILES,
    "do_normalize": OrNull(FLAG),
    "do_rescale": OrNull(FLAG),
    "rescale_factor": OrNull(Number(1e-6, 1000)),
    "resample": OrNull(Whole(0, 5)),
    "image_mean": OrNull(ListOf(Number(-100, 100), 3, alone=True)),
    "image_std": OrNull(ListOf(Number(1e-6, 100), 3, alone=True)),
}


def check_config(config: Mapping[str, Any], where: str, *, is_original: bool) -> None:
    """Check `config.json` of a checkpoint.

    Args:
        config: The config.
        where: The file.
        is_original: Whether it is in the original format.

    Raises:
        CheckpointError: A value is out of range or has a wrong type, or values contradict each
            other; the message names the file and the field.
    """
    check_rules(config, _ORIGINAL if is_original else _HF, where)
    language = "llm_config" if is_original else "text_config"
    text, vision = config.get(language, {}), config.get("vision_config", {})
    check_rules(text, _LANGUAGE, where, [language])
    check_rules(vision, _VISION, where, ["vision_config"])
    for name in ("rope_scaling", "rope_parameters"):
        check_rules(text.get(name) or {}, _ROPE, where, [language, name])
        _check_rope(text.get(name) or {}, f"{where}: {language}.{name}")
    _check_heads(vision, f"{where}: vision_config")
    _check_heads(text, f"{where}: {language}")
    _check_grid(config, vision, where)
    if is_original:
        fewest, most = config.get("min_dynamic_patch", 1), config.get("max_dynamic_patch", 6)
        if fewest > most:
            raise CheckpointError(
                f"{where}: min_dynamic_patch is {fewest}, more than max_dynamic_patch ({most})"
            )
    layer = config.get("select_layer", config.get("vision_feature_layer", -1))
    layers = vision.get("num_hidden_layers", 24)
    if layer == 0 and not is_original:
        raise CheckpointError(
            f"{where}: vision_feature_layer is 0, which transformers takes for none; the layer "
            f"that is meant is also {-layers - 1}"
        )
    if not -layers - 1 <= layer <= layers:
        raise CheckpointError(
            f"{where}: select_layer or vision_feature_layer is {layer}, but the vision tower has "
            f"{layers} layers"
        )


def check_generation(generation: Mapping[str, Any], where: str) -> None:
    """Check `generation_config.json`; see `check_config`."""
    check_rules(generation, _GENERATION, where)


def check_preprocessor(settings: Mapping[str, Any], where: str, tile_size: int) -> None:
    """Check the settings of an image processor; see `check_config`.

    Args:
        settings: The settings.
        where: The file.
        tile_size: Side of a tile of the model in pixels.
    """
    check_rules(settings, _PREPROCESSOR, where)
    _check_tile_size(settings.get("size"), where, tile_size)
    fewest, most = settings.get("min_patches", 1), settings.get("max_patches", 12)
    if fewest > most:
        raise CheckpointError(f"{where}: min_patches is {fewest}, more than max_patches ({most})")
    for name in ("image_mean", "image_std"):
        values = settings.get(name)
        if isinstance(values, list) and len(values) != 3:
            raise CheckpointError(f"{where}: {name} has {len(values)} values, for 3 channels")


def _check_tile_size(size: Any, where: str, tile_size: int) -> None:
    """Check the size of an image processor's tiles.

    transformers cuts tiles of this size, and fails where the model has features for another one.
    """
    sides: Iterable[Any] = [size]
    if isinstance(size, (Mapping, list)):  # a list has height and width
        sides = size.values() if isinstance(size, Mapping) else size
    if any(side not in (None, tile_size) for side in sides):
        raise CheckpointError(
            f"{where}: size is {shorten(size)}, but the model's tiles have a side of {tile_size} "
            "pixels (vision_config.image_size)"
        )


def _check_heads(section: Mapping[str, Any], where: str) -> None:
    width, heads = section.get("hidden_size"), section.get("num_attention_heads")
    if width and heads and width % heads and not section.get("head_dim"):
        raise CheckpointError(
            f"{where}.hidden_size ({width}) is no multiple of num_attention_heads ({heads})"
        )
    groups = section.get("num_key_value_heads")
    if heads and groups and heads % groups:
        raise CheckpointError(
            f"{where}.num_attention_heads ({heads}) is no multiple of num_key_value_heads "
            f"({groups})"
        )


def _check_rope(rope: Mapping[str, Any], where: str) -> None:
    kind = rope.get("rope_type") or rope.get("type")
    for name in _ROPE_NEEDS.get(str(kind), ()):
        if rope.get(name) is None:
            raise CheckpointError(f"{where}.{name} is missing, but {kind!r} needs it")


def _check_grid(config: Mapping[str, Any], vision: Mapping[str, Any], where: str) -> None:
    """Check that a tile has a whole number of patches, and of features after the pixel shuffle."""
    own_size = vision.get("image_size", 224 if "llm_config" in config else 448)
    size = config.get("force_image_size") or own_size
    patch, ratio = vision.get("patch_size", 14), config.get("downsample_ratio", 0.5)
    size, patch = (one[0] if isinstance(one, list) else one for one in (size, patch))
    side = size // patch * ratio
    if size % patch:
        raise CheckpointError(
            f"{where}: a tile of {size} pixels (force_image_size or vision_config.image_size) "
            f"is no multiple of vision_config.patch_size ({patch})"
        )
    if side < 1 or side != int(side) or side > 256:
        raise CheckpointError(
            f"{where}: downsample_ratio {ratio} leaves {side:g} features along the {size // patch} "
            "patches of a tile's side; it has to be a whole number from 1 to 256"
        )
    length = config.get("image_seq_length")
    if length is not None and length != int(side) ** 2:
        raise CheckpointError(
            f"{where}: image_seq_length is {length}, but image_size, patch_size and "
            f"downsample_ratio give {int(side) ** 2}"
        )
