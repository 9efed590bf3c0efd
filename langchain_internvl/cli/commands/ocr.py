"""`ocr`: archives of scans to text, with resume."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_internvl.cli.options import Files, ModelOptions, Pages, Password, with_options

if TYPE_CHECKING:
    from langchain_internvl.documents.archive import PageWriter
    from langchain_internvl.documents.loader import InternVLLoader

_SHOWN = 20
"""Failures that are listed at the end; all are in the output."""


@with_options
def ocr(
    files: Files,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="FILE.jsonl, FILE.parquet, or a folder.", show_default=False
        ),
    ],
    model: ModelOptions,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Markdown with tables in HTML, not plain text.")
    ] = False,
    searchable_pdf: Annotated[
        bool,
        typer.Option("--searchable-pdf", help="Into a folder: PDFs with an invisible text layer."),
    ] = False,
    mode: Annotated[
        str,
        typer.Option("--ocr", help="auto: keep good text layers of PDFs; always; never."),
    ] = "auto",
    pages: Pages = None,
    dpi: Annotated[float | None, typer.Option(help="Resolution for PDFs.")] = None,
    prompt: Annotated[str | None, typer.Option(help="The question about each page.")] = None,
    password: Password = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Pages in flight together.")] = 8,
    resume_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the journal; by default OUT.resume beside the output."),
    ] = None,
) -> None:
    """Read scans: images, TIFFs and PDFs, files and folders; go on after a crash.

    What was read is in a journal, so that the same command goes on where it was killed, and reads
    only what is new the next time.
    """
    from langchain_internvl.documents.archive import open_writer
    from langchain_internvl.documents.jobs import ARCHIVES
    from langchain_internvl.documents.loader import InternVLLoader
    from langchain_internvl.errors import RequestError

    llm = model.open(temperature=0)
    try:
        loader = InternVLLoader(
            files,
            llm=llm,
            output="markdown" if markdown else "text",
            ocr=mode,  # type: ignore[arg-type]
            pages=pages,
            dpi=dpi,
            prompt=prompt,
            password=password,
            concurrency=concurrency,
            resume_dir=resume_dir or out.with_name(f"{out.name}.resume"),
        )
        writer = open_writer(
            out,
            suffix=".md" if markdown else ".txt",
            searchable_pdf=searchable_pdf,
            policy=ARCHIVES,
            password=password,
        )
    except RequestError as error:
        raise typer.BadParameter(str(error)) from None
    if _read_all(loader, writer):
        raise typer.Exit(1)


def _read_all(loader: InternVLLoader, writer: PageWriter) -> int:
    """Read all pages, write them and report; returns the number of failures."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from langchain_internvl.documents.jobs import FileStart, settle

    console = Console(stderr=True)
    started, done, resumed, named = time.monotonic(), 0, 0, 0
    failed: list[str] = []
    columns = (
        TextColumn("pages"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.2f} pages/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("", total=0, rate=0.0)
        for result in loader.results():
            if isinstance(result, FileStart):
                named += 1
                progress.update(bar, total=(progress.tasks[0].total or 0) + (result.pages or 0))
                continue
            page = settle(result, "record")
            assert page is not None  # noqa: S101 - every failure is recorded
            writer.add(result.file, page)
            resumed += result.is_resumed
            done += result.error is None
            if result.error is not None:
                failed.append(str(result.error))
            rate = (done - resumed) / max(time.monotonic() - started, 1e-9)
            progress.update(bar, advance=1, rate=rate)
    writer.finish()
    seconds = time.monotonic() - started
    rate = (done - resumed) / max(seconds, 1e-9)
    typer.echo(
        f"{done} pages of {named} files in {seconds:.1f} s ({rate:.2f} pages/s), "
        f"{resumed} of them read before, {len(failed)} failed",
        err=True,
    )
    for reason in failed[:_SHOWN]:
        typer.secho(f"  {reason}", err=True, fg="red")
    if len(failed) > _SHOWN:
        typer.secho(f"  and {len(failed) - _SHOWN} more", err=True, fg="red")
    return len(failed)
