"""`ocr`: archives of scans to text, with resume."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from langchain_internvl.cli.exit_codes import FAILED
from langchain_internvl.cli.options import (
    Files,
    ModelOptions,
    Pages,
    Password,
    with_options,
)
from langchain_internvl.cli.values import given_text, named_path, output_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from langchain_core.documents.base import Blob

    from langchain_internvl.documents.archive import PageWriter
    from langchain_internvl.documents.loader import InternVLLoader
    from langchain_internvl.documents.sources import File
    from langchain_internvl.errors import MediaError


@with_options
def ocr(
    files: Files,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=output_path,
            metavar="PATH",
            help="FILE.jsonl, FILE.parquet, or a folder.",
            show_default=False,
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
    long_side: Annotated[
        int, typer.Option(min=1, help="Longer side of an A4 page in pixels, without --dpi.")
    ] = 1792,
    rotation: Annotated[
        str,
        typer.Option(help="auto: turn pages that read badly; always: ask for each page; never."),
    ] = "auto",
    deskew: Annotated[bool, typer.Option(help="Level lines that are askew.")] = True,
    skip_blank: Annotated[
        bool, typer.Option(help="Empty pages give empty text without a request.")
    ] = True,
    max_retries: Annotated[
        int, typer.Option(min=0, help="Most further replies for a page that reads badly.")
    ] = 16,
    prompt: Annotated[
        str | None, typer.Option(callback=given_text, help="The question about each page.")
    ] = None,
    password: Password = None,
    recursive: Annotated[bool, typer.Option(help="Read the folders in folders.")] = True,
    concurrency: Annotated[int, typer.Option(min=1, help="Pages in flight together.")] = 8,
    resume_dir: Annotated[
        Path | None,
        typer.Option(
            parser=named_path,
            metavar="PATH",
            help="Folder of the journal; by default OUT.resume beside the output.",
        ),
    ] = None,
) -> None:
    """Read scans: images, TIFFs and PDFs, files and folders; go on after a crash.

    What was read is in a journal, so that the same command goes on where it was killed, and reads
    only what is new the next time.
    """
    from langchain_internvl.documents.archive import open_writer
    from langchain_internvl.documents.jobs import ARCHIVES
    from langchain_internvl.errors import RequestError

    journal = _beside(out) if resume_dir is None else _apart(resume_dir, out)
    llm = model.open(temperature=0)
    try:
        loader = _archive(out)(
            _sources(files),
            llm=llm,
            output="markdown" if markdown else "text",
            ocr=mode,  # type: ignore[arg-type]
            pages=pages,
            dpi=dpi,
            long_side=long_side,
            rotation=rotation,  # type: ignore[arg-type]
            deskew=deskew,
            skip_blank=skip_blank,
            max_retries=max_retries,
            recursive=recursive,
            prompt=prompt,
            password=password,
            concurrency=concurrency,
            resume_dir=journal,
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
        raise typer.Exit(FAILED)


def _beside(out: Path) -> Path:
    """The folder of the journal for an output, which may be `.`, `..` or the root."""
    place = Path(os.path.abspath(out))  # noqa: PTH100 - links stay
    return place.with_name(f"{place.name}.resume") if place.name else place / "ocr.resume"


def _apart(journal: Path, out: Path) -> Path:
    """The folder of a journal that is not in the way of the output.

    Raises:
        typer.BadParameter: The output, which replaces what has its name in the end, is that
            folder, a folder above it, or the file of the journal.
    """
    from langchain_internvl.documents.archive import is_one_file
    from langchain_internvl.documents.journal import FILE_NAME

    folder, file = (Path(os.path.realpath(one)) for one in (journal, out))
    if is_one_file(out) and file in {folder, *folder.parents, folder / FILE_NAME}:
        raise typer.BadParameter(
            f"--resume-dir: the journal in {journal} and the output {out} would overwrite each "
            "other; name another folder"
        )
    return journal


def _archive(out: Path) -> type[InternVLLoader]:
    """A loader that leaves out the searchable PDFs of earlier runs with the same output.

    The folder of the output may be one of the sources, or in one. Files that are named are read.
    """
    from langchain_internvl.documents.loader import InternVLLoader

    ending = ".searchable.pdf"

    class Archive(InternVLLoader):
        _own: set[Path] | None = None

        def files(self) -> Iterator[File | MediaError]:
            is_first = self._own is None
            self._own = own = set() if self._own is None else self._own
            yield from super().files()
            if own and is_first:
                said = f"searchable PDFs of earlier runs in {out} are left out: {len(own)}"
                typer.echo(said, err=True)

        def _skips(self, path: Path) -> bool:
            lines = path.with_name(f"{path.name.removesuffix(ending)}.jsonl")
            is_output = path.name.endswith(ending) and lines.exists() and out.is_dir()
            is_own = is_output and path.parent.samefile(out)
            if is_own and self._own is not None:
                self._own.add(path)
            return is_own

    return Archive


def _read_all(loader: InternVLLoader, writer: PageWriter) -> int:
    """Read all pages, write them and report; returns the number of failures."""
    from langchain_internvl.cli.page_progress import PageProgress
    from langchain_internvl.documents.jobs import FileStart, recorded

    with PageProgress(sum(1 for _ in loader.files())) as progress:
        try:
            with closing(loader.results()) as results:
                for result in results:
                    progress.add(result)
                    if not isinstance(result, FileStart):
                        writer.add(result.file, recorded(result))
            writer.finish()
        except BaseException:
            writer.discard()
            raise
        progress.add_failures(writer.failed)
    return progress.summary()


def _sources(names: list[str]) -> list[str | Blob]:
    """The named files; "-" as the bytes of standard input."""
    from langchain_core.documents.base import Blob

    if names.count("-") > 1:
        raise typer.BadParameter("- is standard input, which can be read once")
    if "-" not in names:
        return list(names)
    data = sys.stdin.buffer.read()
    if not data:
        raise typer.BadParameter("- is standard input, which is empty")
    given = Blob.from_data(data, path="-")
    return [given if name == "-" else name for name in names]
