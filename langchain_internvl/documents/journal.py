"""On-disk journal of read pages: a restart after a crash reads no page twice and loses none.

A journal is a folder with one append-only file, `pages.jsonl`. Each line is the CRC-32 of the
rest in eight hexadecimal digits, a space, and a JSON object. A line torn by a crash fails its CRC
check and is ignored; the next entry begins on a new line. A line is on disk (fsync) before its
page is returned to the caller.

The key of a page's line is its identity (`page_id`, which contains the SHA-256 of the file) and a
fingerprint of everything that changes its text. Pages of another version of a file, or read with
another model, prompt or setting, stay in the journal and do not match.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import threading
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from langchain_core.documents import Document

from langchain_internvl.documents.file_locks import hold
from langchain_internvl.errors import RequestError

FILE_NAME = "pages.jsonl"
"""Name of the file in the folder of a journal."""
_FILE: Mapping[str, type] = {"file": str, "pages": int}
_PAGE: Mapping[str, type] = {"key": str, "page": str, "text": str, "metadata": dict}
"""Fields of both kinds of entries: the number of pages of a file, and a page."""


class Journal:
    """A journal of pages.

    Args:
        folder: The folder; it is created if it does not exist.
        fingerprint: Fingerprint of the settings that change the text; see `fingerprint_of`.

    Raises:
        RequestError: Another process uses the journal, or the folder has no name or is not
            writable.
    """

    def __init__(self, folder: str | os.PathLike[str], fingerprint: str) -> None:
        self._fingerprint = fingerprint
        self._lock = threading.Lock()
        self._places: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        if not os.fspath(folder):
            raise RequestError('resume_dir: is an empty path; the current folder is "."')
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._path = Path(folder) / FILE_NAME
            self._file: IO[bytes] = self._path.open("a+b")
        except OSError as error:
            raise RequestError(f"resume_dir: {folder} cannot be used: {error.strerror}") from error
        try:
            self._unlock = hold(self._file)
        except OSError as error:
            self._file.close()
            raise RequestError(
                f"resume_dir: {folder} is in use by another process, or by an iterator of this one "
                "that has not been closed; wait for it, or take another folder"
            ) from error
        self._load()

    def total(self, digest: str) -> int | None:
        """Number of pages of a file; None: not known.

        Args:
            digest: SHA-256 of the file.
        """
        return self._totals.get(digest)

    def has(self, page_id: str) -> bool:
        """Whether the journal has a page, read with these settings."""
        return page_id in self._places

    def read(self, page_id: str) -> Document:
        """A page of the journal; see `has`."""
        with self._lock:
            self._file.seek(self._places[page_id])
            entry = _parse(self._file.readline())
        assert entry is not None  # noqa: S101 - it was parsed before
        return Document(id=page_id, page_content=entry["text"], metadata=entry["metadata"])

    def add_file(self, digest: str, total: int) -> None:
        """Store the number of pages of a file."""
        if self._totals.get(digest) != total:
            self._totals[digest] = total
            self._append({"file": digest, "pages": total})

    def add(self, page_id: str, document: Document, *, leave_out: Collection[str] = ()) -> None:
        """Store a page; it is on disk when this returns.

        Args:
            page_id: Identity of the page.
            document: The page.
            leave_out: Names of metadata that are not stored, such as `source`: they belong to the
                path of the file, not to the page.
        """
        metadata = {name: one for name, one in document.metadata.items() if name not in leave_out}
        entry = {
            "key": self._fingerprint,
            "page": page_id,
            "text": document.page_content,
            "metadata": metadata,
        }
        self._places[page_id] = self._append(entry)

    def close(self) -> None:
        """Close the file and release its lock."""
        with self._lock:
            if not self._file.closed:
                self._unlock()
            self._file.close()

    def _append(self, entry: Mapping[str, Any]) -> int:
        """Write a line; returns the byte offset at which it begins."""
        data = json_of(entry).encode()
        line = b"%08x %s\n" % (zlib.crc32(data), data)
        with self._lock:
            if self._file.closed:  # the caller has gone while a page was being read
                return 0
            with naming(self._path):
                place = self._file.seek(0, os.SEEK_END)
                self._file.write(line)
                self._file.flush()
                os.fsync(self._file.fileno())
        return place

    def _load(self) -> None:
        """Index the existing lines, and terminate a torn last line."""
        place = self._file.seek(0)
        line = b""
        for line in _lines(self._file):
            entry = _parse(line)
            if entry is not None and _is_of(_FILE, entry):
                self._totals[entry["file"]] = entry["pages"]
            elif entry is not None and _is_of(_PAGE, entry) and entry["key"] == self._fingerprint:
                self._places[entry["page"]] = place
            place += len(line)
        if line and not line.endswith(b"\n"):
            self._file.seek(0, os.SEEK_END)
            self._file.write(b"\n")
            self._file.flush()


def written(text: str) -> str:
    """Text that UTF-8 can hold: the name of a file that is none has lone surrogates."""
    return text.encode("utf-8", "surrogatepass").decode("utf-8", "replace")


def json_of(values: Mapping[str, Any], *, default: Callable[[Any], Any] | None = None) -> str:
    """Values as a line of JSON that UTF-8 can hold, with escapes where it could not.

    Args:
        values: The values.
        default: Makes a JSON value of any other value; None: other values are errors.
    """
    text = json.dumps(values, ensure_ascii=False, default=default)
    return text if written(text) == text else json.dumps(values, default=default)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name a file in the errors of writing it, which a full disk raises without a name.

    Raises:
        OSError: The file cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error


def _lines(file: IO[bytes]) -> Iterator[bytes]:
    while line := file.readline():
        yield line


def _parse(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None: it is torn, or not an object."""
    check, space, data = line.rstrip(b"\n").partition(b" ")
    if not space or len(check) != 8 or check != b"%08x" % zlib.crc32(data):
        return None
    try:
        entry = json.loads(data)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _is_of(kind: Mapping[str, type], entry: Mapping[str, Any]) -> bool:
    """Whether an entry has the fields of a kind; another version may write others."""
    return all(isinstance(entry.get(name), one) for name, one in kind.items())


def fingerprint_of(values: Mapping[str, Any]) -> str:
    """A fingerprint of settings: equal for equal values, whatever their order.

    Args:
        values: JSON values; any other value counts by its `repr`.
    """
    text = json.dumps(values, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
