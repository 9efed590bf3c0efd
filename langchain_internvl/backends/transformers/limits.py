"""What an engine takes on at once; known before torch is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_internvl.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """What an engine takes on at once.

    Attributes:
        max_rows: Most requests that are answered at once.
        max_kv_bytes: Most memory of their keys and values, in bytes; None: as
            `memory.free_for_cache` says after the model was loaded.
        max_queued: Most requests that wait.
        prefix_cache: Whether the keys and values of sequences that have ended are kept for prompts
            that begin as they do, in at most a quarter of `max_kv_bytes`.
        prefill_chunk: Most tokens of prompts that are read between two steps of other sequences.
        feature_cache_bytes: Most memory of vision features that are kept for the next question
            about the same image, in bytes; 0: keep none.
    """

    max_rows: int = 32
    max_kv_bytes: int | None = None
    max_queued: int = 1024
    prefix_cache: bool = True
    prefill_chunk: int = 512
    feature_cache_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or value < least):
                raise RequestError(f"{name} is a whole number from {least}, not {value!r}")

        if not isinstance(self.prefix_cache, bool):
            raise RequestError(f"prefix_cache is True or False, not {self.prefix_cache!r}")

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


_LEAST = {
    "max_rows": 1,
    "max_kv_bytes": 1,
    "max_queued": 1,
    "prefill_chunk": 1,
    "feature_cache_bytes": 0,
}
