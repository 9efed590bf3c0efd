"""Whether there is room for another row, before its prompt is read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from langchain_internvl.backends.transformers.memory import free_for_cache
from langchain_internvl.errors import EngineMemoryError

if TYPE_CHECKING:
    import torch

    from langchain_internvl.backends.base import Request
    from langchain_internvl.backends.transformers.limits import Limits


@dataclass(frozen=True)
class Load:
    """A batch, as far as it takes up room.

    Attributes:
        rows: Its rows.
        held: Rows whose keys and values are held: for a moment also of some that have left.
        longest: Tokens that its rows are padded to when the longest is full, or are now: those
            that only a row needed which has left go with the next step.
        is_joined: Whether the request in question would join it.
    """

    rows: int
    held: int
    longest: int
    is_joined: bool


class KVBudget:
    """Counts the keys and values that rows will need when they are full.

    Rows of a batch are padded to the longest of it, so each costs as much as that one.

    Args:
        model: A native InternVL.
        limits: The limits.
    """

    def __init__(self, model: Any, limits: Limits) -> None:
        self._limits = limits
        self._per_token = kv_bytes_per_token(model.config.get_text_config(), model.dtype)
        most = limits.max_kv_bytes
        self._most = free_for_cache(model) if most is None else most

    def can_admit(self, request: Request, batches: Iterable[Load]) -> bool:
        """Whether a request may begin now.

        Args:
            request: The request.
            batches: What is there already.

        Returns:
            False if it has to wait for others to end.

        Raises:
            EngineMemoryError: It could not begin if it were alone.
        """
        length = full_length(request)
        if length * self._per_token > self._most:
            raise EngineMemoryError(
                f"keys and values of {length} tokens need {length * self._per_token:,} bytes, over "
                f"the limit of {self._most:,}; lower max_tokens or max_tiles, or raise "
                "max_kv_bytes of engine_options"
            )
        tokens, rows, joins = 0, 1, False
        for batch in batches:
            rows += batch.rows
            joins |= batch.is_joined
            longest = max(batch.longest, length) if batch.is_joined else batch.longest
            tokens += (batch.held + batch.is_joined) * longest
        tokens += 0 if joins else length
        return rows <= self._limits.max_rows and tokens * self._per_token <= self._most


def full_length(request: Request) -> int:
    """Tokens of a row when its reply has become as long as it may."""
    return len(request.prompt_ids) + request.max_tokens


def kv_bytes_per_token(text_config: Any, dtype: torch.dtype) -> int:
    """Memory of the keys and values of one token in all layers.

    Args:
        text_config: Config of the language model.
        dtype: Type of its activations.

    Returns:
        Bytes.
    """
    heads = text_config.num_key_value_heads
    size = getattr(text_config, "head_dim", None)
    size = size or text_config.hidden_size // text_config.num_attention_heads
    return int(2 * text_config.num_hidden_layers * heads * size * dtype.itemsize)
