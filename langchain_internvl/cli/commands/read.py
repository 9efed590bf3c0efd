"""`read`: read the text on images and PDFs."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_internvl.cli.jobs import Job, run_jobs
from langchain_internvl.cli.options import (
    Files,
    ModelOptions,
    OutputOptions,
    Pages,
    Password,
    Region,
    with_options,
)
from langchain_internvl.cli.values import given_text


@with_options
def read(
    files: Files,
    model: ModelOptions,
    output: OutputOptions,
    region: Region = None,
    language: Annotated[
        str | None, typer.Option(callback=given_text, help="Language of the text.")
    ] = None,
    pages: Pages = None,
    password: Password = None,
) -> None:
    """Read the text on images and on the pages of PDFs (OCR)."""
    from langchain_internvl.tools import ReadTextTool

    job = Job(
        ReadTextTool, {"region": region, "language": language}, pages=pages, password=password
    )
    run_jobs(files, {"image", "pdf"}, lambda _: job, model, output)
