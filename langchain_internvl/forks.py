"""What a process inherits through `os.fork()` and must not use: locks, threads, temporary folders.

The child has none of the threads, and all of the locks; a folder is its parent's.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from weakref import WeakKeyDictionary, finalize

T = TypeVar("T")

_RENEWALS: WeakKeyDictionary[object, Callable[..., None]] = WeakKeyDictionary()


def renew_after_fork(owner: T, renew: Callable[[T], None]) -> None:
    """Register a function that makes an object usable in forked processes, or makes it raise there.

    Args:
        owner: An object with a lock or a thread; it is not kept alive.
        renew: Called with the object in the child process, which has one thread.
    """
    _RENEWALS[owner] = renew


def _renew() -> None:
    for owner, renew in list(_RENEWALS.items()):
        renew(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)


def remove_with(owner: T, folder: Path) -> finalize[[Path, int], T]:
    """Remove a folder once its owner is gone, or at the end of this process.

    A forked process, which has a copy of the owner, leaves the folder to its parent.

    Args:
        owner: The object that uses the folder; it is not kept alive.
        folder: The folder.

    Returns:
        Function that removes the folder now.
    """
    return finalize(owner, _remove, folder, os.getpid())


def _remove(folder: Path, process: int) -> None:
    if process == os.getpid():
        shutil.rmtree(folder, ignore_errors=True)


class _Owner:
    """Owner of a folder."""


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A new folder that is removed at the end of the context; see `remove_with`.

    `tempfile.TemporaryDirectory` is also removed by a process that was forked meanwhile.

    Args:
        prefix: First letters of its name.
    """
    owner = _Owner()
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    remove = remove_with(owner, folder)
    try:
        yield folder
    finally:
        remove()
