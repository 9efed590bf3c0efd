"""The command `langchain-internvl`."""

from __future__ import annotations

from langchain_internvl._optional import require


def main() -> None:
    """Run the command.

    Raises:
        ImportError: The extra `cli` is not installed.
    """
    require("typer", extra="cli")
    from langchain_internvl.cli.app import app

    app()
