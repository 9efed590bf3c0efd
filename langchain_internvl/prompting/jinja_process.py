"""Runs a chat template of a checkpoint in a process that can be ended.

A jinja template is a program. The sandbox keeps it from the machine, but not from loops within
loops or texts that double in size; a process has limits of time and memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

CPU_SECONDS = 2
"""Most processor time of a template; those of the family take a millisecond."""

_WALL_SECONDS = 60  # also for a machine with much else to do
_MOST_BYTES = 1 << 30
_MOST_CHARACTERS = 1 << 20

_WORKER = Path(__file__).with_name("jinja_worker.py")


def render_jinja(template: str, values: dict[str, Any]) -> str | None:
    """What a template writes.

    Args:
        template: The template.
        values: Its variables; JSON can express them.

    Returns:
        The text; None if the template fails, takes more than `CPU_SECONDS`, 1 GiB of memory or
        60 seconds, or writes more than a million characters.
    """
    return _render(template, json.dumps(values))


@lru_cache(maxsize=64)
def _render(template: str, values: str) -> str | None:
    job = {
        "path": sys.path,
        "seconds": CPU_SECONDS,
        "bytes": _MOST_BYTES,
        "characters": _MOST_CHARACTERS,
        "template": template,
        "values": json.loads(values),
    }
    try:
        done = subprocess.run(  # noqa: S603 - our own program
            [sys.executable, "-I", str(_WORKER)],
            input=json.dumps(job).encode(),
            capture_output=True,
            timeout=_WALL_SECONDS,
            check=True,
        )
        written = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return written if isinstance(written, str) else None
