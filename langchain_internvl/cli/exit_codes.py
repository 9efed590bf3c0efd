"""Exit codes of the command that are not typer's own; `app` lists them all."""

from __future__ import annotations

FAILED = 1
"""Something failed: a file, a case, a check, a server."""

NOT_INSTALLED = 3
"""Nothing but missing packages was in the way."""

INTERRUPTED = 130
"""As of a shell: 128 and the number of the signal."""
