"""Attention of the language model over slots of the KV cache.

Registered with transformers as the attention implementation `internvl_slots`. transformers computes
queries, keys and values of the new tokens; the pass (keyword argument `kv_pass`) writes keys and
values to their slots and attends to the contents of the slots.

transformers' own implementations need one tensor of keys for the whole batch, which would have to
be assembled in each decode step, and with a mask they repeat the keys of grouped-query attention
for every query head. Here the queries of a group are treated as query positions of its key head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

IMPLEMENTATION = "internvl_slots"


class KVPass(Protocol):
    """The slots that one forward pass writes to, and the tokens that it attends to."""

    def attend(
        self,
        layer: int,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kind: AttentionKind,
    ) -> torch.Tensor:
        """Attend from the new tokens to all tokens of their sequences, the new ones included.

        Args:
            layer: Index of the layer.
            query: Queries [sequences, query heads, new tokens, size], after rope.
            key: Keys of the new tokens [sequences, key heads, new tokens, size], after rope.
            value: Values, shaped as the keys.
            kind: Parameters of the layer's attention.

        Returns:
            Tensor with the shape of the queries.
        """


class AttentionKind:
    """Parameters of a layer's attention.

    Args:
        scale: Factor of the scores; None: 1 / sqrt(size).
        window: Sliding window in tokens, the token itself included; None: full attention.
        sinks: Attention sinks: scores [query heads] of an additional position without a value
            (gpt-oss, https://huggingface.co/papers/2309.17453); None: no sinks.
    """

    def __init__(
        self,
        scale: float | None = None,
        window: int | None = None,
        sinks: torch.Tensor | None = None,
    ) -> None:
        self.scale = scale
        self.window = window
        self.sinks = sinks


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kind: AttentionKind,
    mask: torch.Tensor | None = None,
    *,
    is_causal: bool = False,
) -> torch.Tensor:
    """Grouped-query attention without repeating the keys for each query head.

    Args:
        query: [n, query heads, new tokens, size].
        key: [n, key heads, tokens, size].
        value: As the keys.
        kind: Parameters of the layer's attention.
        mask: Boolean, true where a query attends to a key, or numbers with the dtype of the
            queries that are added to the scores: [new tokens, tokens] or [n, 1, 1, tokens]; None:
            all keys.
        is_causal: Queries and keys are the same tokens, with a causal mask; `mask` is None.

    Returns:
        Tensor with the shape of the queries.
    """
    count, heads, tokens, size = query.shape
    groups = key.shape[1]
    if kind.sinks is not None:
        if is_causal:
            mask = torch.ones(tokens, tokens, dtype=torch.bool, device=query.device).tril()
        return _attend_with_sinks(query, key, value, kind, mask)
    if tokens == 1:
        folded = query.reshape(count, groups, heads // groups, size)
        result = scaled_dot_product_attention(folded, key, value, attn_mask=mask, scale=kind.scale)
        return result.reshape(count, heads, 1, size)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=is_causal,
        scale=kind.scale,
        enable_gqa=heads != groups,
    )


def _attend_with_sinks(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    kind: AttentionKind,
    mask: torch.Tensor | None,
) -> torch.Tensor:
    """Attention with sinks in the softmax of every head, which torch's kernels do not support."""
    count, heads, tokens, size = query.shape
    groups = key.shape[1]
    grouped = query.view(count, groups, heads // groups, tokens, size)
    scale = size**-0.5 if kind.scale is None else kind.scale
    scores = (grouped @ key[:, :, None].transpose(-1, -2)).float() * scale
    if mask is not None:
        mask = mask if mask.dim() == 2 else mask[:, :, None]
        is_boolean = mask.dtype == torch.bool
        scores = scores.masked_fill(~mask, float("-inf")) if is_boolean else scores + mask
    sinks = (kind.sinks if kind.sinks is not None else query.new_zeros(heads)).float()
    column = sinks.view(1, groups, -1, 1, 1).expand(count, -1, -1, tokens, 1)
    weights = torch.cat([scores, column], -1).softmax(-1)[..., :-1].to(value.dtype)
    return (weights @ value[:, :, None]).view(count, heads, tokens, size)


def _slot_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # noqa: ARG001 - the pass knows what is visible
    *,
    kv_pass: KVPass,
    scaling: float | None = None,
    sliding_window: int | None = None,
    s_aux: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    kind = AttentionKind(scaling, sliding_window, s_aux)
    result = kv_pass.attend(module.layer_idx, query, key, value, kind)
    return result.transpose(1, 2), None


AttentionInterface.register(IMPLEMENTATION, _slot_attention)


@contextmanager
def slot_attention(text_config: Any) -> Iterator[None]:
    """Context in which a language model attends to slots; afterwards `generate` works as before.

    Args:
        text_config: Config of the language model, which its layers share.
    """
    before = text_config._attn_implementation  # noqa: SLF001 - transformers has no other name
    text_config._attn_implementation = IMPLEMENTATION  # noqa: SLF001
    try:
        yield
    finally:
        text_config._attn_implementation = before  # noqa: SLF001
