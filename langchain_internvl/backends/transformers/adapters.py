"""LoRA adapters: W + scale * B @ A (https://arxiv.org/abs/2106.09685), merged into W or beside it.

Adapters are read in peft's file format. peft itself is needed only for adapters that are not
merged. Module names may be those of the native model, of an original checkpoint, or of its language
model or vision tower alone, as trained by `wrap_llm_lora` and `wrap_backbone_lora` of the original
code.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from langchain_internvl._optional import require
from langchain_internvl.backends.transformers.adapter_patterns import (
    AlphaPatterns,
    check_patterns,
)
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
_EXPERT = re.compile(r"^(.*\.mlp\.experts)\.(\d{1,6})\.(gate|up|down)_proj\.weight$")
"""One expert of Qwen3's mixture; transformers keeps all experts of a layer in one tensor."""
_LONGEST_NAME = 1024
_OTHER_KINDS = (
    "use_dora", "fan_in_fan_out", "modules_to_save", "trainable_token_indices",
    "alora_invocation_tokens", "arrow_config", "layer_replication", "use_bdlora", "use_qalora",
)  # fmt: skip
"""Settings that make the output another one than that of W + scale * B @ A."""
_CHANGING_STARTS = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Beginnings of values of `init_lora_weights` with which peft also changes W: such adapters were
trained beside W - scale * B0 @ A0, or beside a quantised W. Those that were converted to plain LoRA
when they were saved (`path_initial_model_for_weight_conversion`) have the value true."""
_WRAPPER = "base_model.model."
"""Prefix that peft adds to the names of the model that it wraps."""
_PREFIXES = ("", "language_model.", "vision_model.", "model.")
"""Prefixes that may be missing in names of modules that were trained alone."""


@dataclass(frozen=True)
class Change:
    """The change that an adapter makes to one native parameter, or to a part of it.

    Attributes:
        parameter: Name of the parameter.
        down: Matrix A, float32 [rank, inputs].
        up: Matrix B, float32 [outputs, rank].
        scale: Factor of B @ A.
        expert: Index along the first dimension of a parameter that has all experts of a layer;
            None: the whole parameter.
        rows: Rows of the expert's matrix.
    """

    parameter: str
    down: torch.Tensor
    up: torch.Tensor
    scale: float = 1.0
    expert: int | None = None
    rows: slice = field(default_factory=lambda: slice(None))

    @property
    def module(self) -> str:
        """Name of the module that has the parameter."""
        return self.parameter.removesuffix(".weight")

    def add_to(self, weight: torch.Tensor) -> bool:
        """Add the change to a float32 parameter in place; False: the shapes differ."""
        part = weight if self.expert is None else weight[self.expert][self.rows]
        if part.shape != (self.up.shape[0], self.down.shape[1]):
            return False
        part += (self.scale * (self.up @ self.down)).to(weight.device)
        return True


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
    parameters = dict(model.named_parameters())
    changes: dict[str, list[Change]] = {}
    for change in read_changes(model, parameters, folder):
        changes.setdefault(change.parameter, []).append(change)
    with torch.no_grad():
        for name, own in changes.items():
            parameter = parameters[name]
            if parameter.is_meta:
                raise CheckpointError(f"{folder}: {name} of the model is kept on the disk")
            # A new tensor: the old one may be mapped to the checkpoint's file.
            merged = parameter.detach().to(torch.float32, copy=True)
            for change in own:
                if not change.add_to(merged):
                    raise CheckpointError(_misfit(folder, change, parameter))
            parameter.data = merged.to(parameter.dtype)
    return len(changes)


def attach_adapter(model: Any, folder: Path) -> int:
    """Add a LoRA adapter to a model as layers of peft, whose own weights stay as they are.

    Args:
        model: A native InternVL; its weights may be quantised.
        folder: See `merge_adapter`.

    Returns:
        The number of changed modules.

    Raises:
        ImportError: peft is not installed.
        CheckpointNotFoundError: A file is missing.
        UnsupportedCheckpointError: The adapter is not plain LoRA, or changes experts.
        CheckpointError: The adapter is damaged, or does not fit the model.
    """
    peft = require("peft", extra="adapters")
    changes = list(read_changes(model, dict(model.named_parameters()), folder))
    for change in changes:
        if change.expert is not None:
            raise UnsupportedCheckpointError(
                f"{folder} changes experts ({change.parameter}), which have no layers of their "
                "own: merge it with merge_adapter=True"
            )
        module = model.get_submodule(change.module)
        shape = getattr(module, "out_features", None), getattr(module, "in_features", None)
        if shape != (change.up.shape[0], change.down.shape[1]):
            raise CheckpointError(_misfit(folder, change, module.weight))
    dtype = model.dtype
    peft.inject_adapter_in_model(
        peft.LoraConfig(
            r=1,
            target_modules=[change.module for change in changes],
            rank_pattern={re.escape(one.module): one.down.shape[0] for one in changes},
        ),
        model,
    )
    with torch.no_grad():
        for change in changes:
            layer = model.get_submodule(change.module)
            layer.scaling["default"] = change.scale
            for part, matrix in ((layer.lora_A, change.down), (layer.lora_B, change.up)):
                weight = part["default"].weight
                weight.data = matrix.to(weight.device, dtype).contiguous()
    model.requires_grad_(requires_grad=False)
    return len(changes)


def read_changes(model: Any, parameters: Mapping[str, Any], folder: Path) -> Iterator[Change]:
    """The changes of an adapter, by the native parameters of a model.

    Raises:
        CheckpointNotFoundError: A file is missing.
        UnsupportedCheckpointError: The adapter is not plain LoRA.
        CheckpointError: The adapter is damaged, or changes a layer that the model lacks.
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
    heads = model.config.get_text_config()
    alphas = AlphaPatterns(config, file)
    for name, down, up in _pairs(tensors, file):
        changes = _find(name.replace(_WRAPPER, ""), (down, up), parameters, heads, file)
        # The rank is that of the matrices, which `rank_pattern` has already decided.
        rank, alpha = down.shape[0], alphas.find(name.rpartition(_WRAPPER)[2])
        scale = alpha / (rank**0.5 if config.get("use_rslora") else rank)
        yield from (replace(change, scale=scale) for change in changes)


def _misfit(folder: Path, change: Change, parameter: torch.Tensor) -> str:
    return (
        f"{folder}: the change of {change.parameter} has shape "
        f"{(change.up.shape[0], change.down.shape[1])}, the parameter {tuple(parameter.shape)}"
    )


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
    for section, rule in (("alpha_pattern", "lora_alpha"), ("rank_pattern", "r")):
        check_patterns(config, section, _RULES[rule], file)
    kind = config.get("peft_type")
    others = [f"{name}={config[name]!r}" for name in _OTHER_KINDS if config.get(name)]
    start = config.get("init_lora_weights")
    if str(start).lower().startswith(_CHANGING_STARTS):
        others.append(f"init_lora_weights={start!r}")
    if kind != "LORA" or others or config.get("bias", "none") != "none":
        raise UnsupportedCheckpointError(
            f"{folder} is an adapter of type {kind!r} {', '.join(others)} "
            f"(bias={config.get('bias', 'none')!r}); plain LoRA is supported. Merge it with peft, "
            "into the weights that it was trained beside, and load the result"
        )
    return config


def _pairs(
    tensors: Mapping[str, torch.Tensor], file: Path
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """The name of each adapted module in the file, and its matrices A and B in float32."""
    pairs: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        match = _LORA.match(name)
        if match is None or len(name) > _LONGEST_NAME:
            raise UnsupportedCheckpointError(
                f"{file} has a tensor {name[:200]!r}, which is no LoRA's"
            )
        pairs.setdefault(match[1], {})[match[2]] = tensor
    for module, pair in pairs.items():
        if pair.keys() != {"A", "B"} or any(one.dim() != 2 for one in pair.values()):
            raise CheckpointError(f"{file}: {module} needs matrices lora_A and lora_B")
        down, up = pair["A"].float(), pair["B"].float()
        if down.shape[0] != up.shape[1]:
            raise CheckpointError(f"{file}: lora_A and lora_B of {module} have other ranks")
        yield module, down, up


def _find(
    module: str,
    matrices: tuple[torch.Tensor, torch.Tensor],
    parameters: Mapping[str, Any],
    text_config: Any,
    file: Path,
) -> list[Change]:
    """The unscaled changes of one module; a fused projection is split like its weight."""
    down, up = matrices
    for prefix in _PREFIXES:
        parts = native_parts(f"{prefix}{module}.weight", up, text_config)
        if all(name in parameters for name, _ in parts):
            return [Change(name, down, part) for name, part in parts]
        expert = _EXPERT.match(parts[0][0])
        if expert is not None:
            fused = f"{expert[1]}.{'down_proj' if expert[3] == 'down' else 'gate_up_proj'}"
            if fused in parameters and int(expert[2]) < len(parameters[fused]):
                rows = _rows_of_expert(expert[3], parameters[fused].shape[1])
                return [Change(fused, down, up, expert=int(expert[2]), rows=rows)]
    raise CheckpointError(f"{file}: {module} is no layer of this model")


def _rows_of_expert(kind: str, count: int) -> slice:
    """Rows of an expert's matrix: the gate's are before those of the up projection.

    Args:
        kind: "gate", "up" or "down".
        count: Number of rows of the parameter.
    """
    half = count // 2
    return {"gate": slice(0, half), "up": slice(half, count), "down": slice(0, count)}[kind]
