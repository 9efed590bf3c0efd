"""Retry policy of requests to servers."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_internvl.backends.server.error_mapping import can_retry

if TYPE_CHECKING:
    from langchain_internvl.errors import InternVLError

_LONGEST = 8.0
"""Maximum delay without `Retry-After`, in seconds."""
_LONGEST_ASKED = 60.0
"""Maximum `Retry-After` that is respected, in seconds; beyond it the request fails."""


@dataclass(frozen=True)
class Retries:
    """Exponential backoff with jitter.

    Attributes:
        most: Maximum number of retries of a request.
        first: Delay before the first retry, in seconds; it doubles with each further one.
        chance: Source of random numbers from 0 to 1 for the jitter.
    """

    most: int = 2
    first: float = 0.5
    chance: Callable[[], float] = random.random

    def wait_before(self, attempt: int, error: InternVLError) -> float | None:
        """Seconds to wait before the next attempt; None: do not retry.

        Args:
            attempt: Number of the failed attempt, from 0.
            error: Its error, raised before the first token.
        """
        if attempt >= self.most or not can_retry(error):
            return None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            return asked if asked <= _LONGEST_ASKED else None
        return float(min(self.first * 2**attempt, _LONGEST) * (0.75 + 0.25 * self.chance()))
