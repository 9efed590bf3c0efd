"""Tensor names of original checkpoints, and how transformers 5 converts them while it loads.

`from_pretrained` streams every tensor through these rows, so sharding, dtypes, device maps and
quantisation work as for any native checkpoint and no second copy of the weights is made.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from transformers import InternVLForConditionalGeneration
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import (
    Chunk,
    ConversionOps,
    WeightConverter,
    WeightRenaming,
)


class InternVLChatModel(InternVLForConditionalGeneration):  # type: ignore[no-untyped-call]
    """transformers' InternVL, under the name of the original class.

    The conversion below is registered under this name, so it does not affect `-hf` checkpoints.
    """


class SplitInternLM2Attention(ConversionOps):
    """InternLM2's fused, interleaved `wqkv` to query, key and value projections.

    Its rows are grouped by key/value head: the queries of the group, its key, its value. Shape
    [kv_heads * (queries_per_kv + 2) * head_dim, ...]. Source: `modeling_internlm2.py`.

    Args:
        dim: Dimension of the outputs; 1 for AWQ and GPTQ, whose tensors are transposed. Eight
            columns may be packed into one, as a head has a multiple of eight.
    """

    def __init__(self, dim: int = 0) -> None:
        self._dim = dim

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],  # noqa: ARG002
        target_patterns: list[str],
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Split one tensor; works for weights and biases."""
        (fused,) = (one[0] if isinstance(one, list) else one for one in input_dict.values())
        rows = fused.transpose(0, self._dim)
        parts = _split_groups(rows, kwargs["config"].get_text_config())
        parts = [part.transpose(0, self._dim).contiguous() for part in parts]
        return dict(zip(target_patterns, parts, strict=True))

    @property
    def reverse_op(self) -> ConversionOps:
        """The inverse conversion, used when a loaded model is saved."""
        return JoinInternLM2Attention(self._dim)


class JoinInternLM2Attention(ConversionOps):
    """The inverse of `SplitInternLM2Attention`."""

    def __init__(self, dim: int = 0) -> None:
        self._dim = dim

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Join three tensors."""
        groups = kwargs["config"].get_text_config().num_key_value_heads
        given = (input_dict[name] for name in source_patterns)
        parts = [
            (part[0] if isinstance(part, list) else part).transpose(0, self._dim) for part in given
        ]
        head_size = parts[1].shape[0] // groups
        grouped = [part.unflatten(0, (groups, -1, head_size)) for part in parts]
        fused = torch.cat(grouped, dim=1).flatten(0, 2).transpose(0, self._dim)
        return {target_patterns[0]: fused.contiguous()}

    @property
    def reverse_op(self) -> ConversionOps:
        """The inverse conversion."""
        return SplitInternLM2Attention(self._dim)


class RepeatTensor(ConversionOps):
    """One tensor for several modules: GPTQ's `g_idx`, the group of each input."""

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],  # noqa: ARG002
        target_patterns: list[str],
        **_kwargs: Any,
    ) -> dict[str, Any]:
        """Repeat one tensor."""
        (one,) = (one[0] if isinstance(one, list) else one for one in input_dict.values())
        return {name: one.clone() for name in target_patterns}

    @property
    def reverse_op(self) -> ConversionOps:
        """The inverse conversion."""
        return TakeFirstTensor()


class TakeFirstTensor(ConversionOps):
    """The inverse of `RepeatTensor`."""

    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        **_kwargs: Any,
    ) -> dict[str, Any]:
        """Keep the first of several equal tensors."""
        one = input_dict[source_patterns[0]]
        return {target_patterns[0]: one[0] if isinstance(one, list) else one}

    @property
    def reverse_op(self) -> ConversionOps:
        """The inverse conversion."""
        return RepeatTensor()


# In this order, because later rows use names that earlier ones make. Patterns are regular
# expressions; each begins at the start or a dot, and ends at a dot or the end of the name.
_RENAMES = (
    # Vision tower.
    (r"^vision_model\.embeddings\.class_embedding", "model.vision_tower.embeddings.cls_token"),
    (
        r"^vision_model\.embeddings\.position_embedding",
        "model.vision_tower.embeddings.position_embeddings",
    ),
    (
        r"^vision_model\.embeddings\.patch_embedding\.",
        "model.vision_tower.embeddings.patch_embeddings.projection.",
    ),
    (r"^vision_model\.encoder\.layers\.", "model.vision_tower.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.q_norm\.", ".attention.q_norm."),
    (r"\.attn\.k_norm\.", ".attention.k_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.ls1", ".lambda_1"),
    (r"\.ls2", ".lambda_2"),
    # Projector.
    (r"^mlp1\.0\.", "model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "model.multi_modal_projector.linear_2."),
    # Language model.
    (r"^language_model\.output\.", "lm_head."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^language_model\.model\.", "model.language_model."),
    # InternLM2 in the names of Llama.
    (r"\.tok_embeddings\.", ".embed_tokens."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
)


def conversion_rows() -> list[WeightRenaming | WeightConverter]:
    """The conversion rows from original to native tensors, for every supported checkpoint."""
    return [
        *(WeightRenaming(original, native) for original, native in _RENAMES),
        WeightConverter(
            r"\.attn\.qkv\.",
            [".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj."],
            operations=[Chunk(dim=0)],
        ),
        *(
            WeightConverter(
                rf"\.attention\.wqkv\.{kind}",
                [f".self_attn.{part}_proj.{kind}" for part in "qkv"],
                operations=[operation],
            )
            for kind, operation in (
                ("qweight", SplitInternLM2Attention(1)),
                ("qzeros", SplitInternLM2Attention(1)),
                ("scales", SplitInternLM2Attention(1)),
                ("g_idx", RepeatTensor()),
            )
        ),
        WeightConverter(
            r"\.attention\.wqkv\.",
            [".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."],
            operations=[SplitInternLM2Attention()],
        ),
    ]


def native_parts(
    name: str, tensor: torch.Tensor, text_config: Any
) -> list[tuple[str, torch.Tensor]]:
    """Convert one original tensor to native ones, for adapters that are added after loading.

    Args:
        name: Its original name; native names are kept.
        tensor: The tensor.
        text_config: Config of the language model.
    """
    for original, native in _RENAMES:
        name = re.sub(original, native, name)
    for fused, targets in (
        (".attn.qkv.", (".attention.q_proj.", ".attention.k_proj.", ".attention.v_proj.")),
        (".attention.wqkv.", (".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj.")),
    ):
        if fused in name:
            is_grouped = fused == ".attention.wqkv."
            parts = _split_groups(tensor, text_config) if is_grouped else list(tensor.chunk(3))
            return [
                (name.replace(fused, target), part)
                for target, part in zip(targets, parts, strict=True)
            ]
    return [(name, tensor)]


def _split_groups(fused: Any, text_config: Any) -> list[torch.Tensor]:
    """Queries, keys and values of a tensor whose rows are grouped by key/value head."""
    heads, groups = text_config.num_attention_heads, text_config.num_key_value_heads
    grouped = fused.unflatten(0, (groups, heads // groups + 2, -1))
    parts = grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:]
    return [part.flatten(0, 2).contiguous() for part in parts]


register_checkpoint_conversion_mapping(
    InternVLChatModel.__name__, conversion_rows(), overwrite=True
)
