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
