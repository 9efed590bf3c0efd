"""Limits of an engine; this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from langchain_internvl.errors import RequestError


@dataclass(frozen=True)
class Limits:
    """Limits of an engine (`engine_options`).

    Attributes:
        max_rows: Maximum number of running requests.
        max_kv_bytes: Maximum size of the KV cache, in bytes; None: the result of
            `memory.free_on` after the model was loaded, and again for each request, because other
            engines may have taken memory since.
        max_queued: Maximum number of waiting requests.
        prefix_cache: Whether keys and values of ended sequences are kept for prompts with the same
            prefix, in at most a quarter of `max_kv_bytes`.
        prefill_chunk: Maximum number of prompt tokens between two decode steps.
        feature_cache_bytes: Maximum size of the cache of vision features, in bytes; 0: no cache.
        cuda_graphs: Whether decode steps are captured as CUDA graphs; None: where the model can be
            captured, which needs a CUDA device; True: a warning where it cannot.

    Raises:
        RequestError: A value is out of range.
    """

    max_rows: int = 32
    max_kv_bytes: int | None = None
    max_queued: int = 1024
    prefix_cache: bool = True
    prefill_chunk: int = 512
    feature_cache_bytes: int = 256 << 20
    cuda_graphs: bool | None = None

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is None and name in _MAY_BE_NONE:
                continue
            if type(value) is not int or value < least:
                raise RequestError(f"{name} is a whole number from {least}, not {value!r}")

        if not isinstance(self.prefix_cache, bool):
            raise RequestError(f"prefix_cache is True or False, not {self.prefix_cache!r}")
        if self.cuda_graphs is not None and not isinstance(self.cuda_graphs, bool):
            raise RequestError(f"cuda_graphs is True, False or None, not {self.cuda_graphs!r}")

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Limits:
        """Limits from `engine_options`.

        Raises:
            RequestError: A name is unknown, or a value is out of range.
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
_MAY_BE_NONE = {"max_kv_bytes"}
