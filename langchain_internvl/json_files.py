"""The small files of a checkpoint, which anybody may have damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from langchain_internvl.errors import CheckpointError


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
