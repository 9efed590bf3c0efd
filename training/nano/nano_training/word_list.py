"""The English words that pictures show."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import xkcdpass


@cache
def read_list() -> tuple[str, ...]:
    """EFF's long list: 7,776 common English words of 3 to 9 letters, lower case."""
    path = Path(xkcdpass.__file__).parent / "static" / "eff-long"
    return tuple(word for word in path.read_text("utf-8").split() if word.isalpha())
