"""Small files from untrusted sources: JSON of servers and of checkpoints."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, BinaryIO

from langchain_internvl.errors import CheckpointError

MOST_DEPTH = 200
"""Deepest nesting of JSON that is parsed. Python's own limit depends on the stack in use."""

MOST_SETTINGS_BYTES = 16 << 20
"""Largest file of settings that is read."""

_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


def parse_json(text: str) -> Any:
    """The value of a JSON text from an untrusted source.

    Raises:
        ValueError: It is malformed, or nested deeper than `MOST_DEPTH`.
    """
    if text.count("[") + text.count("{") > MOST_DEPTH:
        depth = 0
        for match in _BRACKETS.finditer(text):
            depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match.group(), 0)
            if depth > MOST_DEPTH:
                raise ValueError(f"JSON nested deeper than {MOST_DEPTH} levels")
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("JSON nested too deep") from error


def open_regular(file: Path, most_bytes: int | None = None) -> BinaryIO:
    """Open a file from an untrusted folder, which may be a pipe or a device.

    Args:
        file: The file, or a link to it.
        most_bytes: Largest size that is accepted; None: any.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is no regular file, too large, or cannot be opened.
    """
    try:
        # Opening a pipe waits for its other end unless it is opened without blocking.
        descriptor = os.open(
            file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    status = os.fstat(descriptor)
    reason = None
    if not stat.S_ISREG(status.st_mode):
        reason = f"is {_kind(status.st_mode)}; only regular files are read"
    elif most_bytes is not None and status.st_size > most_bytes:
        reason = f"has {status.st_size} bytes; at most {most_bytes} are read"
    if reason is not None:
        os.close(descriptor)
        raise CheckpointError(f"{file} {reason}")
    return os.fdopen(descriptor, "rb")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def read_text(file: Path, most_bytes: int = MOST_SETTINGS_BYTES) -> str:
    """The text of a small file.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is no regular file, too large, or not UTF-8.
    """
    try:
        with open_regular(file, most_bytes) as opened:
            return opened.read(most_bytes + 1).decode("utf-8")
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error


def read_json(file: Path, most_bytes: int = MOST_SETTINGS_BYTES) -> dict[str, Any] | None:
    """A file of settings; None if there is no such file.

    Raises:
        CheckpointError: It is damaged, too large, or no regular file.
    """
    try:
        refuse_pointer(file)
        content = parse_json(read_text(file, most_bytes))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not settings by name")
    return content


def refuse_pointer(file: Path) -> None:
    """Refuse a git-lfs pointer, which git leaves in place of a large file without git-lfs.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: The file is such a pointer, or no regular file.
    """
    with open_regular(file) as opened:
        if opened.read(40).startswith(b"version https://git-lfs"):
            raise CheckpointError(f"{file} is only a pointer of git-lfs: run `git lfs pull`")
