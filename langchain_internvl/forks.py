"""Locks and threads after `os.fork()`: the child has none of the threads, and all of the locks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

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
