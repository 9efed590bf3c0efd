"""`doctor`: what is installed, what works, and what to install."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_internvl.cli.exit_codes import FAILED
from langchain_internvl.cli.values import given_text


def doctor(
    model: Annotated[
        str | None, typer.Option(callback=given_text, help="Also check this checkpoint.")
    ] = None,
) -> None:
    """Report what is installed, what works, and what to install."""
    from rich.console import Console

    from langchain_internvl.cli.doctor import examine

    report = examine(model)
    console = Console()
    console.print(report.table)
    for advice in report.advice:
        console.print(advice, markup=False, soft_wrap=True)
    if not report.is_well:
        raise typer.Exit(FAILED)
