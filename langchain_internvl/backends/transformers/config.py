"""Translates the config of an original checkpoint to transformers' native config."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from transformers import AutoConfig, InternVLConfig, InternVLVisionConfig
from transformers.activations import ACT2FN
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from langchain_internvl.model_files.rules import OneOf, Rule, check_rules

# Keys of a language model's config that are copied unchanged. The other keys of an original
# `llm_config` are generation defaults of transformers 4, which do not affect the model.
_LANGUAGE_KEYS = (
    "attention_bias", "attention_dropout", "bos_token_id", "decoder_sparse_step", "eos_token_id",
    "head_dim", "hidden_act", "hidden_size", "intermediate_size", "layer_types",
    "max_position_embeddings", "max_window_layers", "mlp_bias", "mlp_only_layers",
    "moe_intermediate_size", "norm_topk_prob", "num_attention_heads", "num_experts",
    "num_experts_per_tok", "num_hidden_layers", "num_key_value_heads", "num_local_experts",
    "original_max_position_embeddings", "pad_token_id", "partial_rotary_factor", "rms_norm_eps",
    "rope_parameters", "rope_scaling", "rope_theta", "sliding_window", "swiglu_alpha",
    "swiglu_limit", "use_sliding_window", "vocab_size",
)  # fmt: skip

_FRACTIONS = frozenset({"layer_norm_eps", "rms_norm_eps", "swiglu_alpha", "swiglu_limit"})
"""Numbers of the copied sections that transformers refuses if JSON writes them without a point."""

_NATIVE_LANGUAGE_MODEL: Mapping[str, str] = {"internlm2": "llama"}
"""Language models with another name in transformers."""

_BIASES: Mapping[str, Mapping[str, tuple[str, bool]]] = {
    "internlm2": {"attention_bias": ("bias", True)},
    "internlm3": {"attention_bias": ("qkv_bias", False), "mlp_bias": ("bias", False)},
}
"""Keys of biases with another name, and their defaults by language model."""

_VISION_DEFAULTS: Mapping[str, Any] = {
    "hidden_size": 3200,
    "image_size": 224,
    "intermediate_size": 12_800,
    "norm_type": "rms_norm",
    "num_attention_heads": 25,
    "num_hidden_layers": 48,
    "qk_normalization": True,
    "qkv_bias": False,
}
"""Defaults of the original `configuration_intern_vit.py` that differ from transformers'."""

_NATIVE_ROPE: Mapping[str, str] = {"su": "longrope"}
"""Types of `rope_scaling` with another name in transformers."""

_ACTIVATION = OneOf(tuple(ACT2FN))
_ROPE_KIND = OneOf(("default", *ROPE_INIT_FUNCTIONS, *_NATIVE_ROPE))
_ROPE_KINDS: Mapping[str, Rule] = {"rope_type": _ROPE_KIND, "type": _ROPE_KIND}
_KINDS: Mapping[tuple[str, ...], Mapping[str, Rule]] = {
    (): {"projector_hidden_act": _ACTIVATION},
    ("vision_config",): {"hidden_act": _ACTIVATION, "norm_type": OneOf(("layer_norm", "rms_norm"))},
    **{
        path: rules
        for text in ("llm_config", "text_config")
        for path, rules in {
            (text,): {"hidden_act": _ACTIVATION},
            (text, "rope_scaling"): _ROPE_KINDS,
            (text, "rope_parameters"): _ROPE_KINDS,
        }.items()
    },
}
"""Settings, by section, whose value names a part of transformers."""

_VISION_KEYS: Mapping[str, str] = {
    "attention_dropout": "attention_dropout",
    "hidden_act": "hidden_act",
    "hidden_size": "hidden_size",
    "image_size": "image_size",
    "intermediate_size": "intermediate_size",
    "layer_norm_eps": "layer_norm_eps",
    "norm_type": "norm_type",
    "num_attention_heads": "num_attention_heads",
    "num_channels": "num_channels",
    "num_hidden_layers": "num_hidden_layers",
    "patch_size": "patch_size",
    "qk_normalization": "use_qk_norm",
    "qkv_bias": "attention_bias",
}


def check_kinds(config: Mapping[str, Any], where: str) -> None:
    """Check the names of activations, norms and kinds of rope in `config.json`.

    transformers raises a bare `KeyError` for a name that it does not know.

    Args:
        config: The config, in either format.
        where: The file.

    Raises:
        CheckpointError: transformers has no such part; the message names the file and the field.
    """
    for path, rules in _KINDS.items():
        section: Any = config
        for name in path:
            section = section.get(name) or {}
        check_rules(section, rules, where, path)


def translate_config(
    original: Mapping[str, Any], *, image_token_id: int, image_seq_length: int
) -> InternVLConfig:
    """Translate `config.json` of an original checkpoint.

    Args:
        original: The config, with `model_type: internvl_chat`.
        image_token_id: Id of `<IMG_CONTEXT>`, from the tokenizer.
        image_seq_length: Context tokens of one tile.
    """
    vision = {**_VISION_DEFAULTS, **original["vision_config"]}
    language = original["llm_config"]
    return InternVLConfig(
        vision_config=InternVLVisionConfig(
            **{
                native: _value(key, vision[key])
                for key, native in _VISION_KEYS.items()
                if key in vision
            }
        ),
        text_config=_language_config(language),
        image_token_id=image_token_id,
        image_seq_length=image_seq_length,
        downsample_ratio=float(original.get("downsample_ratio", 0.5)),
        vision_feature_layer=_feature_layer(original),
        tie_word_embeddings=bool(language.get("tie_word_embeddings")),
    )


def _value(key: str, value: Any) -> Any:
    """A setting with the type that transformers requires."""
    return float(value) if key in _FRACTIONS and isinstance(value, int) else value


def _feature_layer(original: Mapping[str, Any]) -> int:
    """`select_layer` counted from the end, as transformers takes 0 for "no hidden states"."""
    layer: int = original.get("select_layer", -1)
    vision = {**_VISION_DEFAULTS, **original["vision_config"]}
    states = vision["num_hidden_layers"] + 1
    return layer - states if layer >= 0 else layer


def _language_config(language: Mapping[str, Any]) -> Any:
    # Copied, because transformers changes the dictionary in place.
    settings = {
        key: _value(key, deepcopy(language[key])) for key in _LANGUAGE_KEYS if key in language
    }
    # transformers 5 saves rope_scaling and rope_theta together, under a new name.
    for rope in filter(None, (settings.get("rope_scaling"), settings.get("rope_parameters"))):
        older = rope.pop("type", "default")  # newer configs have both keys
        kind = rope.get("rope_type") or older
        rope["rope_type"] = _NATIVE_ROPE.get(kind, kind)
    name = language["model_type"]
    for native, (original, default) in _BIASES.get(name, {}).items():
        settings[native] = bool(language.get(original, default))
    return AutoConfig.for_model(
        _NATIVE_LANGUAGE_MODEL.get(name, name),
        tie_word_embeddings=bool(language.get("tie_word_embeddings")),
        **settings,
    )
