"""`ground`: find something on images."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_internvl.cli.jobs import Job, run_jobs
from langchain_internvl.cli.options import (
    Files,
    ModelOptions,
    OutputOptions,
    Password,
    Region,
    with_options,
)
from langchain_internvl.cli.values import given_text


@with_options
def ground(
    files: Files,
    phrase: Annotated[
        str, typer.Option("--phrase", "-p", callback=given_text, help="What to find.")
    ],
    model: ModelOptions,
    output: OutputOptions,
    region: Region = None,
    page: Annotated[
        int | None, typer.Option(min=1, help="Page of a PDF or TIFF; default: 1.")
    ] = None,
    password: Password = None,
) -> None:
    """Find something on images; --out also writes the images with its boxes drawn."""
    from langchain_internvl.tools import GroundTool

    job = Job(
        GroundTool,
        {"phrase": phrase, "region": region},
        pages=None if page is None else str(page),
        most_pages=1,
        password=password,
    )
    run_jobs(files, {"image", "pdf"}, lambda _: job, model, output)
