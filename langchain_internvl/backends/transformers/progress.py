"""Progress of weight loading: bars where someone waits long enough to watch one, and an early end.

transformers iterates over the tensors of a checkpoint by a bar, which is what can be reached.
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
"""Bytes of weights whose loading is worth a bar."""


@contextmanager
def watched(folder: Path, may_stop: Callable[[], bool]) -> Iterator[None]:
    """Watch a model being loaded by this thread.

    transformers' bar is hidden, except for a large model at a terminal.

    Args:
        folder: The checkpoint.
        may_stop: Whether nobody wants the model any more; asked before each tensor.

    Raises:
        BackendError: It was not loaded to its end, for `may_stop` said so.
    """
    is_large = sum(one.stat().st_size for one in folder.glob("*.safetensors")) >= _LARGE
    is_shown = is_large and sys.stderr.isatty()
    from transformers.utils import logging  # noqa: PLC0415 - imported by now

    loader = threading.get_ident()

    def bar(factory: Any, arguments: tuple[Any, ...], settings: dict[str, Any]) -> Any:
        if not is_shown:
            settings = {**settings, "disable": True}
        if arguments and threading.get_ident() == loader:  # others have bars too
            tensors, *rest = arguments
            if hasattr(tensors, "__len__"):
                settings = {"total": len(tensors), **settings}
            arguments = _until(tensors, may_stop), *rest
        return factory(*arguments, **settings)

    previous = logging.set_tqdm_hook(bar)
    try:
        yield
    finally:
        logging.set_tqdm_hook(previous)


def _until(items: Iterable[Any], may_stop: Callable[[], bool]) -> Iterator[Any]:
    for one in items:
        if may_stop():
            raise BackendError("loading was given up: the engine was closed, or the program ends")
        yield one
