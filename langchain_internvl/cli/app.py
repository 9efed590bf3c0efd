"""Commands: describe, read, ground, ask, doctor and mcp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.cli.doctor import examine
from langchain_internvl.cli.jobs import Job
from langchain_internvl.mcp_server import serve
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.tools import (
    DescribeImageTool,
    GroundTool,
    InternVLToolkit,
    ReadTextTool,
    VideoQATool,
)
from langchain_internvl.tools.base import InternVLTool

app = typer.Typer(
    help="InternVL vision-language models: look at pictures and videos.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_SUFFIXES = {".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".mpg", ".mpeg", ".wmv", ".ts"}
"""Endings of files that `ask` takes for videos."""

Files = Annotated[list[str], typer.Argument(help="Paths or http(s) URLs.", show_default=False)]
Model = Annotated[
    str,
    typer.Option(
        envvar="INTERNVL_MODEL", help="Hub id, local folder, or 'nano', the embedded toy."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print results as JSON, a line for each.")]
Out = Annotated[
    Path | None, typer.Option(help="Folder for a file per result, with pictures of boxes.")
]
Region = Annotated[
    str | None,
    typer.Option(help="Only this part: left, top, right, bottom in thousandths (0 to 1000)."),
]
Question = Annotated[str | None, typer.Option("--question", "-q", help="What to find out.")]

_MODEL = "OpenGVLab/InternVL2-8B"


@app.command()
def describe(
    files: Files,
    question: Question = None,
    region: Region = None,
    model: Model = _MODEL,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Describe pictures, or answer a question about each."""
    arguments = {"question": question, "region": region}
    _finish(_run(DescribeImageTool, "image", files, arguments, _Way(model, out, as_json)))


@app.command()
def read(
    files: Files,
    region: Region = None,
    model: Model = _MODEL,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Read the text on pictures (OCR)."""
    _finish(_run(ReadTextTool, "image", files, {"region": region}, _Way(model, out, as_json)))


@app.command()
def ground(
    files: Files,
    phrase: Annotated[str, typer.Option("--phrase", "-p", help="What to find.")],
    region: Region = None,
    model: Model = _MODEL,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Find something on pictures; with --out they are written with its boxes drawn."""
    arguments = {"phrase": phrase, "region": region}
    _finish(_run(GroundTool, "image", files, arguments, _Way(model, out, as_json)))


@app.command()
def ask(
    files: Files,
    question: Annotated[str, typer.Option("--question", "-q", help="What to find out.")],
    start: Annotated[float | None, typer.Option(help="Of videos: from this second on.")] = None,
    end: Annotated[float | None, typer.Option(help="Of videos: up to this second.")] = None,
    num_frames: Annotated[int, typer.Option(help="Of videos: how many frames to look at.")] = 8,
    model: Model = _MODEL,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Ask about pictures and videos, each on its own."""
    videos = [name for name in files if Path(name.split("?")[0]).suffix.lower() in _SUFFIXES]
    pictures = [name for name in files if name not in videos]
    about: dict[str, Any] = {"question": question}
    failed = _run(DescribeImageTool, "image", pictures, about, _Way(model, out, as_json))
    about |= {"start": start, "end": end, "num_frames": num_frames}
    failed += _run(VideoQATool, "video", videos, about, _Way(model, out, as_json))
    _finish(failed)


@app.command()
def doctor(
    model: Annotated[str | None, typer.Option(help="Also look at this checkpoint.")] = None,
) -> None:
    """Say what is installed, what works, and what to install."""
    report = examine(model)
    console = Console()
    console.print(report.table)
    for advice in report.advice:
        console.print(advice, markup=False, soft_wrap=True)
    _finish(0 if report.is_well else 1)


@app.command()
def mcp(
    root: Annotated[
        list[Path] | None, typer.Option(help="A folder that clients may name files in.")
    ] = None,
    model: Model = _MODEL,
    images: Annotated[
        bool, typer.Option(help="Also send pictures: parts, and boxes drawn.")
    ] = True,
) -> None:
    """Serve the tools to MCP clients over standard input and output."""
    toolkit = InternVLToolkit(
        llm=ChatInternVL(model=model),
        media_policy=MediaPolicy(roots=tuple(root or ())),
        return_images=images,
    )
    serve(toolkit.get_tools())


@dataclass(frozen=True)
class _Way:
    """How files are looked at, whatever is asked."""

    model: str
    out: Path | None
    as_json: bool


def _run(
    kind: Callable[..., InternVLTool],
    argument: str,
    files: list[str],
    arguments: dict[str, Any],
    way: _Way,
) -> int:
    """How many files failed."""
    if not files:
        return 0
    llm = ChatInternVL(model=way.model, temperature=0)
    job = Job(
        tool=kind(llm=llm, return_images=way.out is not None),
        argument=argument,
        as_json=way.as_json,
        out=way.out,
        screen=Console(),
        errors=Console(stderr=True),
    )
    return job.run(files, arguments)


def _finish(failed: int) -> None:
    if failed:
        raise typer.Exit(1)
