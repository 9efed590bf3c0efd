"""`describe`: describe images, or answer a question about each."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_internvl.cli.jobs import Job, run_jobs
from langchain_internvl.cli.options import (
    Files,
    Language,
    ModelOptions,
    OutputOptions,
    Pages,
    Password,
    Region,
    with_options,
)
from langchain_internvl.cli.values import given_text


@with_options
def describe(
    files: Files,
    model: ModelOptions,
    output: OutputOptions,
    question: Annotated[
        str | None, typer.Option("--question", "-q", callback=given_text, help="The question.")
    ] = None,
    region: Region = None,
    language: Language = None,
    pages: Pages = None,
    password: Password = None,
) -> None:
    """Describe images and PDFs, or answer a question about each."""
    from langchain_internvl.tools import DescribeImageTool

    arguments = {"question": question, "region": region, "language": language}
    job = Job(DescribeImageTool, arguments, pages=pages, password=password)
    run_jobs(files, {"image", "pdf"}, lambda _: job, model, output)
