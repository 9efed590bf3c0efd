"""Commands: describe, read, ground, ask, doctor, mcp and serve-view."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from langchain_internvl.backends.lmdeploy.options import needs_pytorch_engine
from langchain_internvl.backends.lmdeploy.view import make_view
from langchain_internvl.chat_models import ChatInternVL
from langchain_internvl.checkpoint import open_checkpoint
from langchain_internvl.cli.doctor import examine
from langchain_internvl.cli.jobs import Output, Task
from langchain_internvl.errors import InternVLError
from langchain_internvl.media.policy import MediaPolicy
from langchain_internvl.prompting.tokenization import load_tokenizer
from langchain_internvl.tools import (
    DescribeImageTool,
    GroundTool,
    InternVLToolkit,
    ReadTextTool,
    VideoQATool,
)
from langchain_internvl.tools.base import InternVLTool
from langchain_internvl.tools.mcp_server import serve

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
    typer.Option(envvar="INTERNVL_MODEL", help="Hub id or local folder."),
]
Server = Annotated[
    str | None,
    typer.Option(
        envvar="INTERNVL_BASE_URL",
        help="Ask a server (LMDeploy's, or any of OpenAI's protocol), such as "
        "http://localhost:23333/v1; its key comes from INTERNVL_API_KEY.",
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
    base_url: Server = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Describe pictures, or answer a question about each."""
    arguments = {"question": question, "region": region}
    way = _Way(model, base_url, out, as_json)
    _run(files, lambda file, eyes: eyes.picture(file, DescribeImageTool, arguments), way)


@app.command()
def read(
    files: Files,
    region: Region = None,
    model: Model = _MODEL,
    base_url: Server = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Read the text on pictures (OCR)."""
    way = _Way(model, base_url, out, as_json)
    _run(files, lambda file, eyes: eyes.picture(file, ReadTextTool, {"region": region}), way)


@app.command()
def ground(
    files: Files,
    phrase: Annotated[str, typer.Option("--phrase", "-p", help="What to find.")],
    region: Region = None,
    model: Model = _MODEL,
    base_url: Server = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Find something on pictures; with --out they are written with its boxes drawn."""
    arguments = {"phrase": phrase, "region": region}
    way = _Way(model, base_url, out, as_json)
    _run(files, lambda file, eyes: eyes.picture(file, GroundTool, arguments), way)


@app.command()
def ask(
    files: Files,
    question: Annotated[str, typer.Option("--question", "-q", help="What to find out.")],
    start: Annotated[float | None, typer.Option(help="Of videos: from this second on.")] = None,
    end: Annotated[float | None, typer.Option(help="Of videos: up to this second.")] = None,
    num_frames: Annotated[int, typer.Option(help="Of videos: how many frames to look at.")] = 8,
    model: Model = _MODEL,
    base_url: Server = None,
    as_json: Json = False,
    out: Out = None,
) -> None:
    """Ask about pictures and videos, each on its own."""
    about = {"question": question}
    bound = {"start": start, "end": end, "num_frames": num_frames}

    def task(file: str, eyes: _Eyes) -> Task:
        if Path(file.split("?", maxsplit=1)[0]).suffix.lower() in _SUFFIXES:
            return eyes.video(file, {**about, **bound})
        return eyes.picture(file, DescribeImageTool, about)

    _run(files, task, _Way(model, base_url, out, as_json))


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
    if not report.is_well:
        raise typer.Exit(1)


@app.command()
def mcp(
    root: Annotated[
        list[Path] | None, typer.Option(help="A folder that clients may name files in.")
    ] = None,
    model: Model = _MODEL,
    base_url: Server = None,
    images: Annotated[
        bool, typer.Option(help="Also send pictures: parts, and boxes drawn.")
    ] = True,
) -> None:
    """Serve the tools to MCP clients over standard input and output."""
    toolkit = InternVLToolkit(
        llm=ChatInternVL(model=model, base_url=base_url),
        media_policy=MediaPolicy(roots=tuple(map(str, root or ()))),
        return_images=images,
    )
    serve(toolkit.get_tools())


@app.command(name="serve-view")
def serve_view(
    model: Annotated[str, typer.Argument(help="Hub id or local folder.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(help="An empty folder, or an older view.", show_default=False)
    ],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
) -> None:
    """Write a folder that LMDeploy serves without the checkpoint's code, and say how."""
    try:
        checkpoint = open_checkpoint(model, revision, runs_here=False)
        tokenizer = load_tokenizer(checkpoint.folder)
        make_view(checkpoint, tokenizer, folder)
    except (ImportError, InternVLError) as error:
        typer.secho(str(error), err=True, fg="red")
        raise typer.Exit(1) from error
    command = ["lmdeploy", "serve", "api_server", str(folder), "--model-name", model]
    window = tokenizer.model_max_length or checkpoint.max_length
    if window is not None:  # LMDeploy's guess leaves out the factor of a dynamic rope
        command += ["--session-len", str(window)]
    if needs_pytorch_engine(checkpoint):
        command += ["--backend", "pytorch"]
    typer.echo(shlex.join(command))


@dataclass(frozen=True)
class _Way:
    """How files are looked at, whatever is asked."""

    model: str
    base_url: str | None
    out: Path | None
    as_json: bool


class _Eyes:
    """Makes tasks for one model."""

    def __init__(self, way: _Way) -> None:
        self._settings: dict[str, Any] = {
            "llm": ChatInternVL(model=way.model, base_url=way.base_url, temperature=0),
            "return_images": way.out is not None,
        }

    def picture(
        self, file: str, kind: Callable[..., InternVLTool], arguments: Mapping[str, Any]
    ) -> Task:
        return Task(file, kind(**self._settings), "image", arguments)

    def video(self, file: str, arguments: Mapping[str, Any]) -> Task:
        return Task(file, VideoQATool(**self._settings), "video", arguments)


def _run(files: list[str], task: Callable[[str, _Eyes], Task], way: _Way) -> None:
    """Do a task for each file, and exit with 1 if one failed."""
    if way.out is not None:
        try:
            way.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise typer.BadParameter(f"{way.out} is no folder: {error}") from error
    eyes = _Eyes(way)
    if Output(way.as_json, way.out).run([task(file, eyes) for file in files]):
        raise typer.Exit(1)
