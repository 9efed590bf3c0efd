"""Where a language model looks while it answers, in training only.

Which of several things is meant is learnt late from answers alone. So some heads of a layer in the
middle are told directly to look at the tokens of what the answer is about.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

if TYPE_CHECKING:
    from nano_training.batches import Batch

_HEADS = 2
"""How many heads of the last layer but one: names are spelt byte by byte, so layers before it have
to put them together, and the one after it to write what was seen."""


def pointing(model: InternVLForConditionalGeneration, batch: Batch, inputs: list[Tensor]) -> Tensor:
    """The loss: minus the logarithm of the share of their attention that heads give to targets.

    Args:
        model: The model.
        batch: What it is asked.
        inputs: What each layer of the language model reads, each [rows, length, width].
    """
    if not len(batch.pointers):
        return inputs[0].new_zeros(())
    language_model = model.model.language_model
    number = max(0, len(language_model.layers) - 2)
    layer = language_model.layers[number]
    read = layer.input_layernorm(inputs[number])
    heads = (*read.shape[:2], -1, layer.self_attn.head_dim)
    query = layer.self_attn.q_proj(read).view(heads).transpose(1, 2)[:, :_HEADS]
    key = layer.self_attn.k_proj(read).view(heads).transpose(1, 2)[:, :_HEADS]
    turns = language_model.rotary_emb(read, batch.positions)
    query, key = apply_rotary_pos_emb(query, key, *turns)
    row, place = batch.pointers.div(read.shape[1], rounding_mode="floor"), batch.pointers
    place = place - row * read.shape[1]
    scores = (query * layer.self_attn.scaling) @ key.mT
    seen = batch.mask[row, 0, place][:, None]  # [pointers, 1, length]
    scores = scores[row, :, place].float().masked_fill(~seen, float("-inf"))
    shares = scores.log_softmax(-1).masked_fill(~batch.targets[:, None], float("-inf"))
    loss: Tensor = -torch.logsumexp(shares, -1).mean()
    return loss
