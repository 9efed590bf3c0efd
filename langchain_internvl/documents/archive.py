"""Pages written to disk: a line of JSON each, rows of Parquet, or a text file for each document.

Every file is written as `NAME.part` and renamed to `NAME` when it is complete, so that a file
under its final name is never half written.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from langchain_core.documents import Document

from langchain_internvl._optional import require
from langchain_internvl.documents.file_locks import Claim
from langchain_internvl.documents.file_version import check_unchanged
from langchain_internvl.documents.journal import json_of, naming, written
from langchain_internvl.documents.searchable_pdf import make_searchable
from langchain_internvl.documents.sources import File
from langchain_internvl.errors import MediaError, RequestError
from langchain_internvl.media.policy import MediaPolicy

_ROWS = 256
"""Pages of a row group of Parquet."""
_LONGEST_NAME = 200
"""Bytes of a document's name in a folder; file systems take 255 with the endings."""
_LINES, _TABLES = frozenset({".jsonl", ".ndjson"}), frozenset({".parquet", ".pq"})
_OTHERS = frozenset(
    {".csv", ".docx", ".html", ".json", ".md", ".pdf", ".tsv", ".txt", ".xlsx", ".xml"}
)
"""Suffixes of files that are no folder, and are not written."""


class PageWriter(Protocol):
    """Output of read pages: one of `JsonLines`, `Parquet` and `Folder`.

    Attributes:
        failed: Why something could not be made of read pages.
    """

    failed: list[MediaError]

    def add(self, file: File, page: Document) -> None:
        """Write a page; the pages of one file arrive consecutively."""

    def finish(self) -> None:
        """Complete what was written."""

    def discard(self) -> None:
        """Remove what is not complete, after an error; the journal has the pages."""


def open_writer(
    out: Path, *, suffix: str, searchable_pdf: bool, policy: MediaPolicy, password: str | None
) -> PageWriter:
    """The writer for an output: `.jsonl`, `.parquet`, or a folder for any other name.

    Args:
        out: File or folder.
        suffix: Ending of text files in a folder, as ".txt".
        searchable_pdf: Also write a PDF with an invisible text layer for each document.
        policy: Limits on source files that are read again for searchable PDFs.
        password: Password of encrypted PDFs.

    Raises:
        RequestError: The output is no place for pages, or no folder although searchable PDFs are
            requested.
        ImportError: The extra `parquet` or `searchable-pdf` is not installed.
    """
    kind = out.suffix.lower()
    is_file = is_one_file(out)
    if is_file and searchable_pdf:
        raise RequestError(f"searchable PDFs go into a folder; {out} is a file")
    try:
        is_folder = out.is_dir()
        if kind in _OTHERS and not is_folder:
            raise RequestError(
                f"pages go into a folder, FILE.jsonl or FILE.parquet, not into {out}"
            )
        if is_file and is_folder:
            raise RequestError(f"{out} is a folder")
        if searchable_pdf:
            require("pikepdf", extra="searchable-pdf")
        (out.parent if is_file else out).mkdir(parents=True, exist_ok=True)
        if not is_file:
            return Folder(out, suffix, policy if searchable_pdf else None, password)
        return JsonLines(out) if kind in _LINES else Parquet(out)
    except OSError as error:
        raise RequestError(f"{out} cannot be written: {error.strerror or error}") from error


def is_one_file(out: Path) -> bool:
    """Whether the output of a name is one file, not a folder."""
    return out.suffix.lower() in _LINES | _TABLES


def _json(values: dict[str, Any]) -> str:
    return json_of(values, default=str)


def row_of(page: Document) -> dict[str, Any]:
    """A page as a flat row: `page_id`, `text` and its metadata."""
    metadata = dict(page.metadata)
    return {"page_id": metadata.pop("page_id", None), "text": page.page_content, **metadata}


class JsonLines:
    """A line of JSON for each page.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.failed: list[MediaError] = []
        self._path = _behind_links(path)
        self._part = _part_of(self._path)
        self._claim = Claim(self._part)
        self._file = self._part.open("w", encoding="utf-8")

    def add(self, file: File, page: Document) -> None:  # noqa: ARG002 - metadata name the file
        """Write a page."""
        with naming(self._part):
            self._file.write(f"{_json(row_of(page))}\n")

    def finish(self) -> None:
        """Complete the file."""
        with naming(self._part):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self._part.replace(self._path)
        self._claim.close()

    def discard(self) -> None:
        """Remove the incomplete file."""
        with suppress(OSError):  # what could not be written before
            self._file.close()
        self._part.unlink(missing_ok=True)
        self._claim.close()


class Parquet:
    """A row of Parquet for each page; `metadata` is the rest, as JSON.

    Args:
        path: The file.

    Raises:
        ImportError: The extra `parquet` is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._arrow = require("pyarrow", extra="parquet")
        parquet = require("pyarrow.parquet", extra="parquet")
        arrow = self._arrow
        self._columns = {
            "page_id": arrow.string(), "source": arrow.string(), "page": arrow.int32(),
            "total_pages": arrow.int32(), "text": arrow.string(), "ocr": arrow.string(),
            "error": arrow.string(), "problem": arrow.string(),
            "token_probability": arrow.float32(), "metadata": arrow.string(),
        }  # fmt: skip
        self.failed: list[MediaError] = []
        self._path = _behind_links(path)
        self._part = _part_of(self._path)
        self._claim = Claim(self._part)
        self._schema = arrow.schema(list(self._columns.items()))
        self._writer = parquet.ParquetWriter(self._part, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def add(self, file: File, page: Document) -> None:  # noqa: ARG002 - metadata name the file
        """Write a page."""
        row = row_of(page)
        exact = row.get("source")
        own = {name: row.pop(name, None) for name in self._columns if name != "metadata"}
        own = {k: written(one) if isinstance(one, str) else one for k, one in own.items()}
        if own["source"] != exact:
            row["source"] = exact
        self._rows.append({**own, "metadata": _json(row)})
        if len(self._rows) >= _ROWS:
            self._flush()

    def finish(self) -> None:
        """Complete the file."""
        self._flush()
        with naming(self._part):
            self._writer.close()
        self._part.replace(self._path)
        self._claim.close()

    def discard(self) -> None:
        """Remove the incomplete file."""
        with suppress(OSError, self._arrow.ArrowException):  # what could not be written before
            self._writer.close()
        self._part.unlink(missing_ok=True)
        self._claim.close()

    def _flush(self) -> None:
        if self._rows:
            with naming(self._part):
                self._writer.write_table(self._arrow.Table.from_pylist(self._rows, self._schema))
        self._rows = []


class Folder:
    """A text file for each document, named after it, with form feeds between its pages.

    Beside `scan.pdf.txt` there is `scan.pdf.jsonl` with its pages and their metadata, and
    `scan.pdf.searchable.pdf` if that is wanted. A document of which nothing was read has the
    `.jsonl` alone, with its errors.

    Args:
        folder: The folder.
        suffix: Ending of the text files.
        policy: Limits on files that are read for searchable PDFs; None: those are not written.
        password: Password of encrypted PDFs.
    """

    def __init__(
        self, folder: Path, suffix: str, policy: MediaPolicy | None, password: str | None
    ) -> None:
        self.failed: list[MediaError] = []
        self._folder = folder
        self._suffix = suffix
        self._policy = policy
        self._password = password
        self._names: set[str] = set()
        self._file: File | None = None
        self._pages: list[Document] = []
        self._claim = Claim(folder)
        self._old = self._parts()

    def add(self, file: File, page: Document) -> None:
        """Keep a page until its document is complete."""
        if file is not self._file:
            self._write()
            self._file = file
        self._pages.append(page)

    def finish(self) -> None:
        """Write the last document."""
        self._write()
        self._file = None
        self._remove_parts()
        self._claim.close()

    def discard(self) -> None:
        """Forget a document that is not complete."""
        self._pages, self._file = [], None
        self._remove_parts()
        self._claim.close()

    def _parts(self) -> dict[Path, int]:
        """Incomplete files, with the times of their last change in ns."""
        endings = (".jsonl", self._suffix, ".searchable.pdf")
        found = (part for end in endings for part in self._folder.glob(f"*{end}.part"))
        parts = {}
        for part in found:
            with suppress(OSError):  # complete by now
                parts[part] = part.stat().st_mtime_ns
        return parts

    def _remove_parts(self) -> None:
        """Remove what a run that was killed has left of documents that are not there any more.

        Files that have come or changed since this run began are of another run in this folder.
        """
        for part in self._old.items() & self._parts().items():
            part[0].unlink(missing_ok=True)

    def _write(self) -> None:
        file, pages, self._pages = self._file, self._pages, []
        read = [page for page in pages if "error" not in page.metadata or page.page_content]
        if file is None:
            return
        name = self._name(Path(file.name or "document").name)
        lines = "".join(f"{_json(row_of(page))}\n" for page in pages)
        _put(self._folder / f"{name}.jsonl", lines.encode())
        if not read:
            return
        text = "\n\f".join(page.page_content for page in pages)
        _put(self._folder / f"{name}{self._suffix}", f"{written(text)}\n".encode())
        if self._policy is not None:
            try:
                check_unchanged(file, read, self._policy)
                pdf = make_searchable(file.source, pages, self._policy, password=self._password)
            except MediaError as error:  # the text is written, and other documents follow
                self.failed.append(error)
                return
            _put(self._folder / f"{name}.searchable.pdf", pdf)

    def _name(self, name: str) -> str:
        """The name of a document's files, shortened if too long; numbered, if another has it."""
        name = name[:_LONGEST_NAME]
        while len(os.fsencode(name)) > _LONGEST_NAME:  # whole characters: macOS takes no others
            name = name[:-1]
        unique, number = name, 1
        while unique.lower() in self._names:
            number += 1
            unique = f"{name}-{number}"
        self._names.add(unique.lower())
        return unique


def _behind_links(path: Path) -> Path:
    """The file that a link stands for: renaming would put a file in place of the link."""
    # Unlike `Path.resolve`, this raises nothing for a link to itself.
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def _part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _put(path: Path, data: bytes) -> None:
    path = _behind_links(path)
    part = _part_of(path)
    try:
        with naming(part):
            part.write_bytes(data)
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise
