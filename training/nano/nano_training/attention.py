"""Attention of rows whose questions share a picture, without the products that a mask hides.

Of four questions about one picture, each of which sees the picture and itself, a mask hides two
thirds of the products; of pages and videos half. PyTorch's attention calculates what a mask hides
all the same, and was 70% of a step on a CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, apply_rotary_pos_emb

NAME = "segments"
"""The attention's name for transformers; its mask is `Batch.segments`."""

_LONG = 500
"""In tokens: 25 rows of 400 tokens took a sixth longer one by one, 12 of 650 a fifth less."""


def register() -> None:
    """Make it known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, segment_attention)


def plain_attention(
    _: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **__: object,
) -> tuple[Tensor, None]:
    """softmax(Q K^T) V, whose gradients are faster than those of PyTorch's attention on a CPU.

    Args:
        query: [rows, heads, length, width], as are key and value.
        key: What is looked for.
        value: What is found.
        attention_mask: True where a token sees another; None: it sees all.
        scaling: What products are multiplied with.

    Returns:
        [rows, length, heads, width], and no weights.
    """
    return _attention(query, key, value, attention_mask, scaling), None


def segment_attention(
    _: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **__: object,
) -> tuple[Tensor, None]:
    """The same as attention with `Batch.mask`, but zeros come of padding.

    Args:
        query: [rows, heads, length, width], as are key and value; or shorter: of the last tokens,
            from a shared one of each row on.
        key: What is looked for.
        value: What is found.
        attention_mask: `Batch.segments`: int64 [rows, length]; or `Batch.mask`.
        scaling: What products are multiplied with.

    Returns:
        [rows, length, heads, width], and no weights.
    """
    if attention_mask.ndim == 4:
        return _attention(query, key, value, attention_mask, scaling), None
    rows = []
    skipped = key.shape[2] - query.shape[2]
    for number, (shared, *questions) in enumerate(spans_of(attention_mask)):
        q, k, v = (tensor[number, None] for tensor in (query, key, value))
        begin = shared - skipped
        parts = [_causal(q[:, :, :begin], k[:, :, :shared], v[:, :, :shared], scaling)]
        for size in questions:
            own, asked = slice(begin + skipped, begin + skipped + size), slice(begin, begin + size)
            keys, values = (torch.cat([one[:, :, :shared], one[:, :, own]], 2) for one in (k, v))
            parts.append(_causal(q[:, :, asked], keys, values, scaling))
            begin += size
        parts.append(q.new_zeros(*q.shape[:2], q.shape[2] - begin, v.shape[-1]))
        rows.append(torch.cat([part.to(value.dtype) for part in parts], 2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


def last_tokens(
    layer: LlamaDecoderLayer,
    hidden: Tensor,
    mask: Tensor,
    turns: tuple[Tensor, Tensor],
    first: int,
) -> Tensor:
    """A layer's output for the last tokens alone: of the last layer nothing else is used.

    Five of six tokens are of pictures, so this is a fifth less work in a model of four layers.

    Args:
        layer: The layer.
        hidden: What it reads, [rows, length, width].
        mask: `Batch.mask` or `Batch.segments`.
        turns: Rotary embeddings of all tokens.
        first: The first token whose output is wanted; a shared one of each row.

    Returns:
        [rows, length - first, width].
    """
    own = layer.self_attn
    read = layer.input_layernorm(hidden)
    query, key, value = (
        one.view(*one.shape[:2], -1, own.head_dim).transpose(1, 2)
        for one in (own.q_proj(read[:, first:]), own.k_proj(read), own.v_proj(read))
    )
    cos, sin = turns
    key = apply_rotary_pos_emb(key, key, cos, sin)[1]
    query = apply_rotary_pos_emb(query, query, cos[:, first:], sin[:, first:])[0]
    seen = mask[:, :, first:] if mask.ndim == 4 else mask
    found, _ = segment_attention(own, query, key, value, seen, own.scaling)
    middle = hidden[:, first:] + own.o_proj(found.flatten(2))
    output: Tensor = middle + layer.mlp(layer.post_attention_layernorm(middle))
    return output


def pays(segments: Tensor) -> bool:
    """Whether rows are so long that it is cheaper to take them and their questions one by one."""
    return segments.shape[1] > _LONG


def spans_of(segments: Tensor) -> list[list[int]]:
    """Lengths of each row's shared tokens and of its questions, in order; padding left out.

    A row of one question has it all as shared: it sees what is before it, and nothing else is.
    """
    found = []
    for row in segments.tolist():
        lengths: list[int] = []
        for place, segment in enumerate(row):
            if segment < 0:
                break
            if place == 0 or segment != row[place - 1]:
                lengths.append(0)
            lengths[-1] += 1
        found.append(lengths if len(lengths) != 2 else [sum(lengths)])
    return found


def _attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float
) -> Tensor:
    """[rows, length, heads, width]; by plain matrices where gradients are wanted."""
    if torch.is_grad_enabled():
        scores = (query * scaling) @ key.mT
        if mask is not None:
            scores = scores.masked_fill(~mask, float("-inf"))
        found = scores.softmax(-1) @ value
    else:
        found = scaled_dot_product_attention(query, key, value, mask, scale=scaling)
    return found.transpose(1, 2).contiguous()


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Each of the last tokens sees those before it and itself."""
    long, seen = query.shape[2], key.shape[2]
    if long == seen:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    mask = torch.ones(long, seen, dtype=torch.bool).tril(seen - long)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
