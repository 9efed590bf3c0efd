"""`compare`: two runs of `eval` over the same cases."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from langchain_internvl.cli.values import named_path


def compare(
    older: Annotated[
        Path,
        typer.Argument(parser=named_path, help="File that eval --out wrote.", show_default=False),
    ],
    newer: Annotated[
        Path, typer.Argument(parser=named_path, help="Another one.", show_default=False)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON.")] = False,
) -> None:
    """Compare two runs of eval over the same cases: the mean difference and its interval."""
    from langchain_internvl.cli.runs import print_difference, read_run

    print_difference(read_run(older), read_run(newer), as_json=as_json)
