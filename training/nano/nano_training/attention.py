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

NAME = "segments"
"""The attention's name for transformers; its mask is `Batch.segments`."""

_LONG = 500
"""In tokens: 25 rows of 400 tokens took a sixth longer one by one, 12 of 650 a fifth less."""


def register() -> None:
    """Make it known to transformers."""
    ALL_ATTENTION_FUNCTIONS.register(NAME, segment_attention)


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
        query: [rows, heads, length, width], as are key and value.
        key: What is looked for.
        value: What is found.
        attention_mask: `Batch.segments`: int64 [rows, length]; or `Batch.mask`.
        scaling: What products are multiplied with.

    Returns:
        [rows, length, heads, width], and no weights.
    """
    if attention_mask.ndim == 4:
        found = scaled_dot_product_attention(query, key, value, attention_mask, scale=scaling)
        return found.transpose(1, 2).contiguous(), None
    rows = []
    for number, (shared, *questions) in enumerate(spans_of(attention_mask)):
        q, k, v = (tensor[number, None] for tensor in (query, key, value))
        parts = [_causal(q[:, :, :shared], k[:, :, :shared], v[:, :, :shared], scaling)]
        begin = shared
        for size in questions:
            own = slice(begin, begin + size)
            keys, values = (torch.cat([one[:, :, :shared], one[:, :, own]], 2) for one in (k, v))
            parts.append(_causal(q[:, :, own], keys, values, scaling))
            begin += size
        parts.append(q.new_zeros(*q.shape[:2], q.shape[2] - begin, v.shape[-1]))
        rows.append(torch.cat([part.to(value.dtype) for part in parts], 2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


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


def _causal(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> Tensor:
    """Each of the last tokens sees those before it and itself."""
    long, seen = query.shape[2], key.shape[2]
    if long == seen:
        return scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling)
    mask = torch.ones(long, seen, dtype=torch.bool).tril(seen - long)
    return scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
