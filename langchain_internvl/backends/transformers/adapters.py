"""LoRA adapters, merged into the weights: W + scale * B @ A (https://arxiv.org/abs/2106.09685).

Adapters are read in peft's file format; peft itself is not needed. Module names may be those of the
native model, of an original checkpoint, or of its language model or vision tower alone, as trained
by `wrap_llm_lora` and `wrap_backbone_lora` of the original code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from langchain_internvl.backends.transformers.weights import native_parts
from langchain_internvl.errors import (
    CheckpointError,
    CheckpointNotFoundError,
    UnsupportedCheckpointError,
)
from langchain_internvl.json_files import open_regular, read_json
from langchain_internvl.model_files.rules import (
    FLAG,
    SECTION,
    TEXT,
    Number,
    OrNull,
    Rule,
    Whole,
    check_rules,
)

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"

_RULES: Mapping[str, Rule] = {
    "peft_type": TEXT,
    "r": Whole(1, 65_536),
    "lora_alpha": Number(0, 1e6),
    "use_rslora": OrNull(FLAG),
    "fan_in_fan_out": OrNull(FLAG),
    "rank_pattern": OrNull(SECTION),
    "alpha_pattern": OrNull(SECTION),
}
_LORA = re.compile(r"^(.*)\.lora_([AB])(?:\.default)?\.weight$")
_PREFIXES = ("", "language_model.", "vision_model.", "model.")
"""Prefixes that may be missing in names of modules that were trained alone."""


def merge_adapter(model: Any, folder: Path) -> int:
    """Add a LoRA adapter to the weights of a model.

    Args:
        model: A native InternVL whose weights are not quantised.
        folder: The adapter, with `adapter_config.json` and `adapter_model.safetensors`.

    Returns:
        The number of changed tensors.

    Raises:
        CheckpointNotFoundError: A file is missing.
        UnsupportedCheckpointError: The adapter is not plain LoRA.
        CheckpointError: The adapter is damaged, or does not fit the model.
    """
    config = read_adapter_config(folder)
    file = folder / WEIGHTS_FILE
    try:
        open_regular(file).close()
        tensors = load_file(file)
    except FileNotFoundError as error:
        raise CheckpointNotFoundError(f"{folder} has no {WEIGHTS_FILE}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    parameters = dict(model.named_parameters())
    heads = model.config.get_text_config()
    changed = 0
    with torch.no_grad():
        for module, delta in _deltas(tensors, config, file):
            for name, part in _find(module, delta, parameters, heads, file):
                parameter = parameters[name]
                if parameter.shape != part.shape or parameter.is_meta:
                    raise CheckpointError(
                        f"{file}: {module} has shape {tuple(part.shape)}, {name} of the model "
                        f"{tuple(parameter.shape)}; or it is kept on the disk"
                    )
                # A new tensor: the old one may be mapped to the checkpoint's file.
                merged = parameter.float() + part.to(parameter.device)
                parameter.data = merged.to(parameter.dtype)
                changed += 1
    return changed


def read_adapter_config(folder: Path) -> Mapping[str, Any]:
    """Read and validate the settings of a plain LoRA adapter.

    Raises:
        CheckpointNotFoundError: The settings file is missing.
        UnsupportedCheckpointError: The adapter is not plain LoRA.
        CheckpointError: A value is invalid.
    """
    file = folder / CONFIG_FILE
    config = read_json(file)
    if config is None:
        raise CheckpointNotFoundError(f"{folder} has no {CONFIG_FILE}, so it is no adapter")
    check_rules(config, _RULES, str(file))
    kind = config.get("peft_type")
    others = [
        f"{name}={config[name]!r}"
        for name in ("use_dora", "fan_in_fan_out", "modules_to_save", "trainable_token_indices")
        if config.get(name)
    ]
    if kind != "LORA" or others or config.get("bias", "none") != "none":
        raise UnsupportedCheckpointError(
            f"{folder} is an adapter of type {kind!r} {', '.join(others)} "
            f"(bias={config.get('bias', 'none')!r}); plain LoRA is supported. Merge it with peft "
            "and load the result"
        )
    return config


def _deltas(
    tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], file: Path
) -> Iterator[tuple[str, torch.Tensor]]:
    """The name of each adapted module, and the change of its weight in float32."""
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _LORA.match(name)
        if match is None:
            raise UnsupportedCheckpointError(f"{file} has a tensor {name!r}, which is no LoRA's")
        pairs.setdefault(match[1], {})[match[2]] = tensor
    for module, pair in pairs.items():
        if pair.keys() != {"A", "B"} or any(one.dim() != 2 for one in pair.values()):
            raise CheckpointError(f"{file}: {module} needs matrices lora_A and lora_B")
        down, up = pair["A"].float(), pair["B"].float()
        if down.shape[0] != up.shape[1]:
            raise CheckpointError(f"{file}: lora_A and lora_B of {module} have other ranks")
        yield module.replace("base_model.model.", ""), _scale(module, down, config) * (up @ down)


def _scale(module: str, down: torch.Tensor, config: Mapping[str, Any]) -> float:
    """Alpha / rank, or alpha / sqrt(rank) for rsLoRA; patterns match the ends of module names."""
    rank = down.shape[0]
    alpha = config.get("lora_alpha", 8)
    for pattern, own in (config.get("alpha_pattern") or {}).items():
        if module == pattern or module.endswith(f".{pattern}"):
            alpha = own
    return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)


def _find(
    module: str,
    delta: torch.Tensor,
    parameters: Mapping[str, Any],
    text_config: Any,
    file: Path,
) -> list[tuple[str, torch.Tensor]]:
    """The native parameters of an adapted module, each with its part of the change."""
    for prefix in _PREFIXES:
        parts = native_parts(f"{prefix}{module}.weight", delta, text_config)
        if all(name in parameters for name, _ in parts):
            return parts
    raise CheckpointError(f"{file}: {module} is no layer of this model")
