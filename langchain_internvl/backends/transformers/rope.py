"""Which rows may share a batch, given positions whose encoding depends on length.

Two kinds of rope change with the longest position of the whole batch: dynamic NTK (InternLM2),
whose base grows with every token past the trained length, and longrope (Phi3), which switches to
another set of factors there. A short row beside a long one would be computed in the long one's
terms and change completely. So rows that stay short share a batch; of rows that are or may get
long, only those of longrope that start long can share one.

A row that crosses the limit while it decodes changes its encoding on the way, and keeps the keys
made before. That is what the reference and transformers do, and what happens here.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

DYNAMIC = "dynamic"
LONGROPE = "longrope"
SHORT = "short"
"""The key of rows whose encoding does not depend on the length of any."""


def batch_key(text_config: Any, prompt_length: int, max_tokens: int, row: Hashable) -> Hashable:
    """Rows with equal keys may decode together.

    Args:
        text_config: Config of the language model.
        prompt_length: Tokens of the row's prompt.
        max_tokens: Most tokens that it will add.
        row: The row's own name.
    """
    kind = text_config.rope_parameters["rope_type"]
    limit = length_limit(text_config)
    if limit is None or prompt_length + max_tokens <= limit:
        return SHORT
    if kind == LONGROPE and prompt_length > limit:
        return "long"
    return "alone", row


def length_limit(text_config: Any) -> int | None:
    """The longest row that is encoded as trained; None if encoding does not depend on length."""
    rope = text_config.rope_parameters
    if rope["rope_type"] == DYNAMIC:
        return int(text_config.max_position_embeddings)
    if rope["rope_type"] == LONGROPE:
        return int(rope["original_max_position_embeddings"])
    return None


class DynamicRope:
    """The modules of a model whose dynamic NTK rope grows with the positions they see.

    transformers keeps the largest base so far until a short prompt comes along, and computes it in
    torch's default dtype, which is another model's while that is being loaded. So the frequencies
    are set here, for every forward pass, from a Python number as the reference has it.

    Args:
        model: A native InternVL.
    """

    def __init__(self, model: Any) -> None:
        self._modules = [
            module for module in model.modules() if getattr(module, "rope_type", None) == DYNAMIC
        ]

    def prepare(self, length: int) -> None:
        """Make the next forward pass depend on its own positions only.

        Args:
            length: Positions of its longest row, the new ones included.
        """
        for module in self._modules:
            frequencies = module.original_inv_freq
            if length > module.original_max_seq_len:
                frequencies, _ = ROPE_INIT_FUNCTIONS[DYNAMIC](
                    module.config, frequencies.device, seq_len=length
                )
            frequencies = frequencies.to(module.inv_freq.device)
            module.register_buffer("inv_freq", frequencies, persistent=False)
            # So long, and no longer, transformers takes the frequencies that are there.
            module.max_seq_len_cached = max(length, module.original_max_seq_len)
