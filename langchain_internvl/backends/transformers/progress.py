"""Progress bars of weight loading: shown where someone waits long enough to watch one."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_LARGE = 2**30
"""Bytes of weights whose loading is worth a bar."""


@contextmanager
def bar_if_watched(folder: Path) -> Iterator[None]:
    """Hide transformers' bar of loading weights, except for a large model at a terminal.

    Args:
        folder: The checkpoint.
    """
    is_large = sum(one.stat().st_size for one in folder.glob("*.safetensors")) >= _LARGE
    if is_large and sys.stderr.isatty():
        yield
        return
    from transformers.utils import logging  # noqa: PLC0415 - imported by now

    previous = logging.set_tqdm_hook(_hidden)
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)


def _hidden(factory: Any, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
    return factory(*arguments, **{**settings, "disable": True})
