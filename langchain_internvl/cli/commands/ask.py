"""`ask`: ask about images, PDFs and videos."""

from __future__ import annotations

from typing import Annotated

import typer

from langchain_internvl.cli.inputs import Input
from langchain_internvl.cli.jobs import Job, run_jobs
from langchain_internvl.cli.options import (
    Files,
    Language,
    ModelOptions,
    OutputOptions,
    Pages,
    Password,
    with_options,
)
from langchain_internvl.cli.values import check_span, given_text


@with_options
def ask(
    files: Files,
    question: Annotated[
        str, typer.Option("--question", "-q", callback=given_text, help="The question.")
    ],
    model: ModelOptions,
    output: OutputOptions,
    start: Annotated[float | None, typer.Option(help="Second at which a video starts.")] = None,
    end: Annotated[float | None, typer.Option(help="Second at which a video ends.")] = None,
    num_frames: Annotated[
        int | None, typer.Option(min=1, help="Number of frames of a video. Default: 8.")
    ] = None,
    language: Language = None,
    pages: Pages = None,
    password: Password = None,
) -> None:
    """Ask about images, PDFs and videos, each on its own."""
    from langchain_internvl.tools import DescribeImageTool, VideoQATool

    check_span(start, end)
    about = {"question": question, "language": language}
    chosen = {"start": start, "end": end, "num_frames": num_frames}
    of_videos = tuple(name for name, value in chosen.items() if value is not None)
    watch = {**about, **chosen}

    def job(one: Input) -> Job:
        if one.kind == "video":
            return Job(VideoQATool, watch, "video", pages=pages)
        return Job(DescribeImageTool, about, pages=pages, password=password, unused=of_videos)

    run_jobs(files, {"image", "pdf", "video"}, job, model, output)
