"""Locks and threads after `os.fork()`: the child has none of the threads, and all of the locks."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")

_RENEWALS: WeakKeyDictionary[object, Callable[..., None]] = WeakKeyDictionary()


def renew_after_fork(owner: T, renew: Callable[[T], None]) -> None:
    """Have something made usable, or honest, in forked processes.

    Args:
        owner: What has a lock or a thread; it is not kept alive.
        renew: Called with it in the child, where one thread runs.
    """
    _RENEWALS[owner] = renew


def _renew() -> None:
    for owner, renew in list(_RENEWALS.items()):
        renew(owner)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew)
