"""When a request is tried again, and how long after."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from langchain_internvl.backends.server.error_mapping import can_retry

if TYPE_CHECKING:
    from langchain_internvl.errors import InternVLError

_LONGEST = 8.0
_LONGEST_ASKED = 60.0
"""Longer than this no server may make us wait."""


@dataclass(frozen=True)
class Retries:
    """How often, and how long after.

    Attributes:
        most: Most retries of a request.
        first: Seconds before the first one; each further one waits twice as long.
        chance: Gives numbers from 0 to 1, which keep many clients from coming back at once.
    """

    most: int = 2
    first: float = 0.5
    chance: Callable[[], float] = random.random

    def wait_before(self, attempt: int, error: InternVLError) -> float | None:
        """Seconds to wait before another attempt; None if there shall be none.

        Args:
            attempt: The number of the attempt that failed, from 0.
            error: What it failed with, before the first token.
        """
        if attempt >= self.most or not can_retry(error):
            return None
        asked = getattr(error, "retry_after", None)
        if asked is not None:
            return asked if asked <= _LONGEST_ASKED else None
        return float(min(self.first * 2**attempt, _LONGEST) * (0.75 + 0.25 * self.chance()))
