"""Locks of files between processes, which the system releases when a process ends.

Where `fcntl` is, files and folders are locked themselves. Windows has locks of bytes: a byte beyond
the end of a file is locked, or a file beside an output, because Windows renames and removes no
file that is open.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from langchain_internvl.errors import RequestError

_FAR = 0x7FFF_FFF0
"""Offset of the byte that is locked on Windows: other processes cannot read a locked byte."""


def hold(file: IO[bytes] | int) -> Callable[[], None]:
    """Lock a file for this process until the lock is released or the process ends.

    Args:
        file: The open file, or its descriptor, which may be a folder's where `fcntl` is.

    Returns:
        Function that releases the lock, to be called before the file is closed: a process that was
        forked meanwhile has a copy of the file, which would keep it. It does nothing there.

    Raises:
        OSError: Another process holds the lock.
    """
    descriptor, owner = file if isinstance(file, int) else file.fileno(), os.getpid()
    if _has("fcntl"):
        fcntl: Any = importlib.import_module("fcntl")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

        def release() -> None:
            if os.getpid() == owner:
                fcntl.flock(descriptor, fcntl.LOCK_UN)

        return release
    if _has("msvcrt"):
        msvcrt: Any = importlib.import_module("msvcrt")
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)
    return _closing_releases


def _closing_releases() -> None:
    """Nothing: where there is no `fcntl` there is no fork, and closing the file is enough."""


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class Claim:
    """A lock on a file that is written, or on the folder of an output, until it is closed.

    On Windows `NAME.lock` beside it, or `.ocr.lock` in the folder, is locked, and removed in the
    end. What a killed process leaves of it is not locked, and used again.

    Args:
        path: The file, which is created if it does not exist, or the folder.

    Raises:
        OSError: It cannot be opened.
        RequestError: Another process, or another writer of this one, writes it.
    """

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        self._unlock = _closing_releases
        self._beside: Path | None = None
        lock = path
        if not _has("fcntl"):
            lock = path / ".ocr.lock" if path.is_dir() else path.with_name(f"{path.name}.lock")
            self._beside = lock
        while not self._is_held(path, lock):  # the other process has just renamed it
            self._release()

    def _is_held(self, path: Path, lock: Path) -> bool:
        """Lock what has the path of the lock; False: by now, something else has it."""
        flags = os.O_RDONLY if lock.is_dir() else os.O_RDWR | os.O_CREAT
        self._file = os.open(lock, flags, 0o666)
        try:
            self._unlock = hold(self._file)
        except OSError as error:
            self._release()
            if lock.is_dir() and not isinstance(error, BlockingIOError):
                return True  # network file systems have no locks of folders
            raise RequestError(
                f"{path} is being written by another process; wait for it, or take another output"
            ) from error
        if self._beside is not None:
            return True  # it cannot be removed while it is open
        with suppress(FileNotFoundError):
            return os.path.samestat(lock.stat(), os.fstat(self._file))
        return False

    def close(self) -> None:
        """Release the lock."""
        self._release()
        if self._beside is not None:
            with suppress(OSError):  # another process has opened it by now
                self._beside.unlink(missing_ok=True)

    def _release(self) -> None:
        if self._file is not None:
            self._unlock()
            os.close(self._file)
        self._file, self._unlock = None, _closing_releases
