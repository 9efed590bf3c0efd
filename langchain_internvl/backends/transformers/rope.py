"""Batching of sequences whose RoPE depends on the length.

Two kinds of RoPE depend on the longest position of the whole batch: dynamic NTK (InternLM2), whose
base grows with every token past the trained length, and longrope (Phi3), which switches to another
set of factors there. A short sequence in a batch with a long one would be encoded with the wrong
frequencies. So sequences that stay short share a batch; of sequences that are or may become long,
only longrope sequences that start long can share one.

A sequence that crosses the limit while decoding changes its encoding, and keeps its earlier keys,
as in the reference and in transformers.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

DYNAMIC = "dynamic"
LONGROPE = "longrope"
SHORT = "short"
"""Key of sequences whose encoding does not depend on the length of the batch."""


def batch_key(text_config: Any, prompt_length: int, max_tokens: int, row: Hashable) -> Hashable:
    """The batch key of a sequence; sequences with equal keys may share a batch.

    Args:
        text_config: Config of the language model.
        prompt_length: Number of tokens of the prompt.
        max_tokens: Maximum number of tokens of the reply.
        row: Unique key of the sequence.
    """
    kind = text_config.rope_parameters["rope_type"]
    limit = length_limit(text_config)
    if limit is None or prompt_length + max_tokens <= limit:
        return SHORT
    if kind == LONGROPE and prompt_length > limit:
        return "long"
    return "alone", row


def length_limit(text_config: Any) -> int | None:
    """Maximum length with the trained encoding, in tokens; None: RoPE is length-independent."""
    rope = text_config.rope_parameters
    if rope["rope_type"] == DYNAMIC:
        return int(text_config.max_position_embeddings)
    if rope["rope_type"] == LONGROPE:
        return int(rope["original_max_position_embeddings"])
    return None


class DynamicRope:
    """The dynamic NTK RoPE modules of a model, whose frequencies depend on the positions.

    transformers keeps the largest base until the next short prompt, and computes it in torch's
    default dtype, which changes while another model is loaded. So the frequencies are set here for
    every forward pass, from a Python float as in the reference.

    Args:
        model: A native InternVL.
    """

    def __init__(self, model: Any) -> None:
        self._modules = [
            module for module in model.modules() if getattr(module, "rope_type", None) == DYNAMIC
        ]

    @contextmanager
    def frequencies(self, length: int) -> Iterator[None]:
        """Context of a forward pass, in which transformers uses the frequencies that are set here.

        transformers itself would read the longest position from the device in every pass.

        Args:
            length: Length of the longest sequence in tokens, the new ones included.
        """
        for module in self._modules:
            frequencies = module.original_inv_freq
            if length > module.original_max_seq_len:
                frequencies, _ = ROPE_INIT_FUNCTIONS[DYNAMIC](
                    module.config, frequencies.device, seq_len=length
                )
            frequencies = frequencies.to(module.inv_freq.device)
            module.register_buffer("inv_freq", frequencies, persistent=False)
            module.max_seq_len_cached = max(length, module.original_max_seq_len)
        try:
            for module in self._modules:
                module.rope_type = "default"
            yield
        finally:
            for module in self._modules:
                module.rope_type = DYNAMIC
