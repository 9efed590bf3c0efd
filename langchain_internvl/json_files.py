"""The small files of a checkpoint, which anybody may have damaged."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from langchain_internvl.errors import CheckpointError

MOST_DEPTH = 200
"""Deepest nesting of JSON that is parsed. Python's own limit depends on the stack in use."""

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


def read_json(file: Path) -> dict[str, Any] | None:
    """A file of settings; None if there is no such file.

    Raises:
        CheckpointError: It is damaged.
    """
    try:
        refuse_pointer(file)
        content = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, RecursionError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{file} holds a {type(content).__name__}, not settings by name")
    return content


def refuse_pointer(file: Path) -> None:
    """Refuse what git leaves of a large file, if git-lfs was not there when it cloned.

    Raises:
        CheckpointError: The file is such a pointer.
    """
    with file.open("rb") as opened:
        if opened.read(40).startswith(b"version https://git-lfs"):
            raise CheckpointError(f"{file} is only a pointer of git-lfs: run `git lfs pull`")
