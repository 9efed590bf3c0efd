"""Rules: which sequences may share a batch or use the prefix cache, and which are read whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.transformers.rope import SHORT, batch_key, length_limit
from langchain_internvl.backends.transformers.sampling import is_greedy

if TYPE_CHECKING:
    from collections.abc import Hashable

    import torch

    from langchain_internvl.backends.base import Request
    from langchain_internvl.backends.transformers.sequences import Sequence


class BatchRules:
    """The rules of one model.

    Args:
        text_config: Config of its language model.
        dtype: Data type of its weights.

    Attributes:
        rounds: Whether the batch size changes the rounding of logits, and so occasionally a token;
            true for 16-bit types. Reproducible sequences then decode in batches of one.
    """

    def __init__(self, text_config: Any, dtype: torch.dtype) -> None:
        self.rounds = dtype.itemsize < 4
        self._text_config = text_config

    def is_repeatable(self, request: Request) -> bool:
        """Whether a request must give bit-identical results each time."""
        sampling = request.sampling
        return self.rounds and sampling.seed is not None and not is_greedy(sampling)

    def key(self, sequence: Sequence) -> Hashable:
        """Sequences with equal keys may decode together."""
        if self.is_repeatable(sequence.request):
            return "seeded", sequence
        return self._rope_key(sequence)

    def may_reuse(self, sequence: Sequence) -> bool:
        """Whether cached keys and values may be used; not if RoPE depends on the length."""
        return self._rope_key(sequence) == SHORT and not self.is_repeatable(sequence.request)

    def reads_whole(self, sequence: Sequence) -> bool:
        """Whether a prompt is read in one chunk, because RoPE depends on its length."""
        limit = length_limit(self._text_config)
        return limit is not None and len(sequence.prompt) > limit

    def _rope_key(self, sequence: Sequence) -> Hashable:
        request = sequence.request
        return batch_key(self._text_config, len(request.prompt_ids), request.max_tokens, sequence)
