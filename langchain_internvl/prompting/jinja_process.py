"""Renders a checkpoint's jinja chat template in a separate process with limits.

A jinja template is a program. The sandbox isolates it from the system, but does not bound loops
and string growth; the process has limits of time and memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

CPU_SECONDS = 2
"""Maximum processor time of a template, in seconds; InternVL's templates need a millisecond."""

_WALL_SECONDS = 60  # generous, because the machine may be busy
_MOST_BYTES = 1 << 30
_MOST_CHARACTERS = 1 << 20

_WORKER = Path(__file__).with_name("jinja_worker.py")


def render_jinja(template: str, values: dict[str, Any]) -> str | None:
    """Render a template.

    Args:
        template: The template.
        values: Its variables, which must be JSON values.

    Returns:
        The text; None if the template fails, needs more than `CPU_SECONDS`, 60 seconds of wall
        time or 1 GiB of memory, or renders more than a million characters.
    """
    try:
        return _render(template, json.dumps(values))
    except (OSError, subprocess.TimeoutExpired):  # the machine's state: not kept in the cache
        return None


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
    except (subprocess.CalledProcessError, ValueError):
        return None
    return written if isinstance(written, str) else None
