"""The command `langchain-internvl`."""

from __future__ import annotations

import io
import sys

from langchain_internvl._optional import require
from langchain_internvl.cli.exit_codes import NOT_INSTALLED


def main() -> None:
    """Run the command; see `app` for its exit codes."""
    try:
        require("typer", extra="cli")
        require("rich", extra="cli")
    except ImportError as error:
        sys.stderr.write(f"langchain-internvl: {error}\n")
        raise SystemExit(NOT_INSTALLED) from None
    from langchain_internvl.cli.app import app

    for stream in (sys.stdout, sys.stderr):  # names and replies may have characters that it lacks
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="langchain-internvl")
