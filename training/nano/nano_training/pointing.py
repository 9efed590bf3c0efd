"""Where a language model looks while it answers, in training only.

What is meant, and what comes next, is learnt late from answers alone. So some heads are told
directly which tokens to look at. Names are spelt byte by byte, so early layers have to put them
together, and the last ones to write what was seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import InternVLForConditionalGeneration
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

if TYPE_CHECKING:
    from nano_training.batches import Batch


class Goal(IntEnum):
    """What a head is to look at while a token is written.

    Attributes:
        THING: What the answer, or this part of it, is about.
        NAMED: What the part of the answer before this one was about.
        HERE: The letter on the picture that was written last.
        NEXT: The letter on the picture that is written now.
        COPIED: The letter of the question's text that is written now.
        FOUND: While a question is read, the same letter of the word that it asks for in the pages'
            text before it.
        LINE: While that word is read in the pages' text, the first letter of its line.
        ASKED: The end of the question that asks for that word.
        ENDS: While the box of a line is written, its name's first letters in the answer, for its
            left side, its last, for its right one, and any of them for top and bottom.
    """

    THING = 0
    NAMED = 1
    HERE = 2
    NEXT = 3
    COPIED = 4
    FOUND = 5
    LINE = 6
    ASKED = 7
    ENDS = 8


HEADS: Mapping[Goal, tuple[tuple[int, tuple[int, ...]], ...]] = MappingProxyType(
    {
        Goal.THING: ((3, (0, 1)),),
        Goal.NAMED: ((4, (2,)),),
        Goal.HERE: ((3, (3,)), (2, (0,))),
        Goal.NEXT: ((2, (1,)), (1, (0,))),
        Goal.COPIED: ((2, (2, 3)), (1, (1,))),
        Goal.FOUND: ((3, (3,)), (2, (4,))),
        Goal.LINE: ((3, (2,)),),
        Goal.ASKED: ((2, (4,)), (1, (0,))),
        Goal.ENDS: ((2, (4,)), (1, (0,))),
    }
)
"""Which layers, counted from the last (1), and which of their heads. Goals of different tokens
share heads: HERE and FOUND both look for letters just written, NEXT and ASKED for what an answer
follows, as ENDS does, and FOUND leads on from where ASKED looks. The third run began to teach
`THING`; of the eleventh's weights the other heads were of little use: without one of them the
losses of descriptions, boxes, few lines and videos rose by less than 0.03."""

WEIGHTS: Mapping[Goal, float] = MappingProxyType(
    {
        Goal.THING: 1.0,
        Goal.NAMED: 0.3,
        Goal.HERE: 0.4,
        Goal.NEXT: 0.3,
        Goal.COPIED: 0.5,
        Goal.FOUND: 0.7,
        Goal.LINE: 0.5,
        Goal.ASKED: 0.3,
        Goal.ENDS: 0.5,
    }
)
"""How much each goal counts beside the loss of answers."""

_UNSURE = 0.05
"""What is known already shall not outvote the rest, as in the loss of answers."""


def pointing(model: InternVLForConditionalGeneration, batch: Batch, inputs: list[Tensor]) -> Tensor:
    """The loss: minus the logarithm of the share of their attention that heads give to targets.

    Args:
        model: The model.
        batch: What it is asked.
        inputs: What each layer of the language model reads, each [rows, length, width].

    Returns:
        The weighted sum of the losses of all goals that the batch has, each a mean over what is not
        yet looked at; float32 [].
    """
    total = inputs[0].new_zeros((), dtype=torch.float32)
    for goal in Goal:
        of_goal = (batch.goals == goal).nonzero()[:, 0]
        for layer in HEADS[goal] if len(of_goal) else ():
            each = _losses(model, batch, inputs, layer, of_goal)
            unsure = (each.detach() > _UNSURE).sum().clamp(min=len(each) // 8 + 1)
            total = total + WEIGHTS[goal] * each.sum() / unsure
    return total


def _losses(
    model: InternVLForConditionalGeneration,
    batch: Batch,
    inputs: list[Tensor],
    layer: tuple[int, tuple[int, ...]],
    of_goal: Tensor,
) -> Tensor:
    """The loss of each pointer of a goal in a layer: float32 [heads * m]."""
    language_model = model.model.language_model
    from_last, heads = layer
    number = max(0, len(language_model.layers) - from_last)
    own = language_model.layers[number].self_attn
    read = language_model.layers[number].input_layernorm(inputs[number])
    chosen = sorted({head % language_model.config.num_attention_heads for head in heads})
    query, key = (
        product(read).view(*read.shape[:2], -1, own.head_dim).transpose(1, 2)[:, chosen]
        for product in (own.q_proj, own.k_proj)
    )
    query, key = apply_rotary_pos_emb(query, key, *language_model.rotary_emb(read, batch.positions))
    length = read.shape[1]
    rows, places = batch.pointers[of_goal] // length, batch.pointers[of_goal] % length
    losses = []
    for row in rows.unique().tolist():
        of_row = rows == row
        mine = places[of_row]
        scores = (query[row][:, mine] * own.scaling) @ key[row].mT
        shares = scores.float().masked_fill(~batch.seen_from(row, mine), float("-inf"))
        target = batch.targets[of_goal[of_row]]
        found = shares.masked_fill(~target, float("-inf")).logsumexp(-1)
        losses.append((shares.logsumexp(-1) - found).flatten())
    return torch.cat(losses)
