"""Whether there is room for another row, before its prompt is read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from langchain_internvl.backends.base import Request
from langchain_internvl.errors import EngineMemoryError, RequestError


@dataclass(frozen=True)
class Limits:
    """What an engine takes on at once.

    Attributes:
        max_rows: Most requests that are answered at once.
        max_kv_bytes: Most memory of their keys and values, in bytes; None: four fifths of the
            memory that is free after the model was loaded, on the GPUs or, without any, half of
            this machine's.
        max_queued: Most requests that wait.
    """

    max_rows: int = 32
    max_kv_bytes: int | None = None
    max_queued: int = 1024

    def __post_init__(self) -> None:
        for name in ("max_rows", "max_kv_bytes", "max_queued"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise RequestError(f"{name} is a whole number from 1, not {value!r}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Limits:
        """Limits by their names.

        Raises:
            RequestError: A name or a value is wrong.
        """
        unknown = options.keys() - cls.__dataclass_fields__.keys()
        if unknown:
            raise RequestError(
                f"engine_options of transformers are {', '.join(cls.__dataclass_fields__)}, "
                f"not {', '.join(sorted(unknown))}"
            )
        return cls(**options)


@dataclass(frozen=True)
class Load:
    """A batch, as far as it takes up room.

    Attributes:
        rows: Its rows.
        held: Rows whose keys and values are held: for a moment also of some that have left.
        longest: Tokens of its longest row when that is full.
        is_joined: Whether the request in question would join it.
    """

    rows: int
    held: int
    longest: int
    is_joined: bool


class Budget:
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
        self._most = free_memory() if most is None else most

    def has_room(self, request: Request, batches: Iterable[Load]) -> bool:
        """Whether a request may begin now.

        Args:
            request: The request.
            batches: What is there already.

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
    """Memory of the keys and values of one token in all layers."""
    heads = text_config.num_key_value_heads
    size = getattr(text_config, "head_dim", None)
    size = size or text_config.hidden_size // text_config.num_attention_heads
    return int(2 * text_config.num_hidden_layers * heads * size * dtype.itemsize)


def free_memory() -> int:
    """Bytes that keys and values may take, if nobody said how many."""
    if torch.cuda.is_available():
        free = (torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
        return int(sum(free) * 0.8)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    except (AttributeError, OSError, ValueError):  # not on every system
        return 8 << 30
