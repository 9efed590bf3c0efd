"""Progress bar and early end of weight loading.

transformers iterates over the tensors of a checkpoint through a tqdm bar; this module replaces it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langchain_internvl.errors import BackendError

_LARGE = 2**30
"""Size of the weights in bytes from which a progress bar appears."""

_LOADING: set[threading.Thread] = set()
"""Threads inside `watched`."""


@contextmanager
def watched(folder: Path, may_stop: Callable[[], bool]) -> Iterator[None]:
    """Context in which this thread loads a model.

    The progress bar appears only for large models at a terminal.

    Args:
        folder: The checkpoint.
        may_stop: Returns whether to abandon loading; called before each tensor.

    Raises:
        BackendError: `may_stop` returned True before the model was loaded.
    """
    is_large = sum(one.stat().st_size for one in folder.glob("*.safetensors")) >= _LARGE
    is_shown = is_large and sys.stderr.isatty()
    from transformers.utils import logging  # noqa: PLC0415 - imported by now

    loader = threading.get_ident()

    def bar(factory: Any, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        if not is_shown:
            settings = {**settings, "disable": True}
        if arguments and threading.get_ident() == loader:  # other threads have bars too
            tensors, *rest = arguments
            if hasattr(tensors, "__len__"):
                settings = {"total": len(tensors), **settings}
            arguments = _until(tensors, may_stop), *rest
        return factory(*arguments, **settings)

    previous = logging.set_tqdm_hook(bar)
    thread = threading.current_thread()
    _LOADING.add(thread)
    try:
        yield
    finally:
        _LOADING.discard(thread)
        logging.set_tqdm_hook(previous)


def is_loading(thread: threading.Thread | None) -> bool:
    """Whether a thread is inside `watched`."""
    return thread in _LOADING


def _until(items: Iterable[Any], may_stop: Callable[[], bool]) -> Iterator[Any]:
    for one in items:
        if may_stop():
            raise BackendError("loading was given up: the engine was closed, or the program ends")
        yield one
